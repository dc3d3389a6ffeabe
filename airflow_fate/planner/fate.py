"""The one entry point of FATE: a plan for the frontier, given the state of the fleet and what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_fate.cluster import ClusterState
from airflow_fate.physics import CostModel
from airflow_fate.planner.compose import compose
from airflow_fate.planner.greedy import place_all
from airflow_fate.planner.improve import improved
from airflow_fate.planner.plan import Plan, PlanConfig, ReadyStage
from airflow_fate.planner.problem import frame
from airflow_fate.planner.validate import violations
from airflow_fate.workflow import Workflow


def plan(
    frontier: Sequence[ReadyStage],
    workflows: Mapping[str, Workflow],
    state: ClusterState,
    costs: CostModel,
    now: float,
    config: PlanConfig,
) -> Plan:
    """Bind, hold or refuse every stage of the frontier.

    The greedy plan is the incumbent; with a deadline, the solver looks for a better one and only a valid plan with a
    lower objective replaces it.
    """
    problem = frame(frontier, workflows, state, costs, now, config)
    decided = place_all(problem, problem.outlook())
    incumbent = compose(problem, decided)
    if config.deadline_s <= 0 or not problem.queue:
        return incumbent
    better = improved(problem, decided)
    if better is None or better.objective_s >= incumbent.objective_s:
        return incumbent
    return incumbent if violations(better, frontier, workflows, state) else better
