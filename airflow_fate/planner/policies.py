"""How does a policy of some name plan?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_fate.planner import registry
from airflow_fate.planner.baselines import BASELINES
from airflow_fate.planner.baselines.round_robin import RoundRobin
from airflow_fate.planner.dispatch.rule import changed
from airflow_fate.planner.plan import Plan, PlanConfig, Policy, Problem


@dataclass(frozen=True)
class Planner:
    """``plan`` as FATE or as a baseline uses it."""

    name: str

    def __call__(self, problem: Problem, config: PlanConfig) -> Plan:
        # Compiled code is loaded where plans are made, not wherever settings are read.
        from airflow_fate.planner.fate import plan
        from airflow_fate.planner.heartbeat import BIND_AHEAD_S

        if self.name != registry.FATE:
            # Nothing is loaded ahead of any stage: the executor carries out bindings alone.
            rule = changed(BASELINES[self.name].rule, bind_ahead_s=BIND_AHEAD_S, prefetch=0.0)
            config = replace(config, rule=rule, solver=self.name)
        return plan(problem, config)


def policy(name: str) -> Policy:
    """A policy by its name; round robin begins at the first place.

    :raises ValueError: listing the known names.
    """
    registry.check("policy", name, registry.PLANNING)
    return RoundRobin() if name == registry.BASELINE else Planner(name)
