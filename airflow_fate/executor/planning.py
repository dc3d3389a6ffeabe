"""Who decides, and what when that fails? The configured policy, its improvement in the child, and the way down.

FATE's greedy plan is made in this thread; the child is asked to better it within what is left of the budget. If the
policy itself fails, late-binding round robin decides, with a warning: tasks still run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from airflow_fate.cluster import ClusterState
from airflow_fate.executor.solver import SolverProcess
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner.plan import Plan, PlanConfig, Policy, ReadyStage
from airflow_fate.planner.policies import policy as find_policy
from airflow_fate.planner.validate import violations
from airflow_fate.workflow import Workflow

log = logging.getLogger(__name__)
LEAST_BUDGET_S = 0.005
MOST_STAGES = 200
"""Beyond this, handing the question over and solving it take longer than any sensible budget: greedy plans stand."""
FALLBACK = "round_robin"


class Decider:
    """Plans within a budget and never raises.

    :param policy_name: ``fate`` or a baseline.
    :param solver: improves FATE's plans; None keeps them greedy.
    :param budget_s: wall time for one plan.
    """

    def __init__(
        self,
        policy_name: str,
        config: PlanConfig,
        solver: SolverProcess | None,
        budget_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = policy_name
        self._policy: Policy = find_policy(policy_name)
        self._fallback: Policy = find_policy(FALLBACK)
        self._config = config
        self._solver = solver if policy_name == "fate" else None
        self._budget_s = budget_s
        self._clock = clock
        self.degraded = ""

    def decide(
        self,
        frontier: Sequence[ReadyStage],
        workflows: Mapping[str, Workflow],
        state: ClusterState,
        costs: CostModel,
        now: float,
    ) -> Plan:
        """A plan for the frontier; an empty one only if every way has failed."""
        began = self._clock()
        try:
            plan = self._policy(frontier, workflows, state, costs, now, self._config)
        except Exception as error:
            self._degrade(f"policy {self._name} failed: {error!r}")
            return self._last_resort(frontier, workflows, state, costs, now)
        left_s = self._budget_s - (self._clock() - began)
        if self._solver is not None and left_s >= LEAST_BUDGET_S and 1 < len(frontier) <= MOST_STAGES:
            plan = self._improved(plan, frontier, workflows, state, costs, now, left_s)
        self.degraded = ""
        return plan

    def _improved(
        self,
        incumbent: Plan,
        frontier: Sequence[ReadyStage],
        workflows: Mapping[str, Workflow],
        state: ClusterState,
        costs: CostModel,
        now: float,
        left_s: float,
    ) -> Plan:
        assert self._solver is not None
        # Half of what is left is for the way there and back.
        config = replace(self._config, deadline_s=left_s / 2)
        better = self._solver.improve(frontier, workflows, state, costs, now, config, left_s)
        if better is None:
            return incumbent
        if wrong := violations(better, frontier, workflows, state):
            log.warning("The solver's plan is invalid and thrown away: %s", "; ".join(wrong[:3]))
            return incumbent
        return better

    def _last_resort(
        self,
        frontier: Sequence[ReadyStage],
        workflows: Mapping[str, Workflow],
        state: ClusterState,
        costs: CostModel,
        now: float,
    ) -> Plan:
        try:
            return self._fallback(frontier, workflows, state, costs, now, self._config)
        except Exception as error:
            self._degrade(f"policy {self._name} and then {FALLBACK} failed: {error!r}")
            return Plan(solver="none")

    def _degrade(self, why: str) -> None:
        if self.degraded != why:
            log.exception("Planning is degraded to %s: %s", FALLBACK, why)
        self.degraded = why
