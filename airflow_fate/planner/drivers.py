"""How does a policy meet a world that goes on by itself? It is asked whenever something has happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from airflow_fate.physics.world.arrays import World
from airflow_fate.planner import registry
from airflow_fate.planner.baselines import BASELINES
from airflow_fate.planner.baselines.assignment import drive_assignment
from airflow_fate.planner.dispatch.rollout import rollout
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.planner.objectives import OBJECTIVES
from airflow_fate.planner.search.search import Search, Settings

Driver = Callable[[World, Callable[[], float]], list[float]]
"""Run a world to its end, given a clock; seconds of each plan, where the policy has plans of its own."""


def driver(policy: str, objective: str, seed: int, options: Mapping[str, float]) -> Driver:
    """The policy of that name.

    :param options: FATE's parts, to switch or bound; other policies have none.
    :raises ValueError: naming what is unknown and what is known.
    """
    registry.check("policy", policy, registry.NAMES)
    registry.check("objective", objective, OBJECTIVES)
    if policy == registry.FATE:
        settings = Settings(objective, seed).switched(options)
        return lambda world, clock: Search(world, settings).drive(world, clock)
    if policy == registry.ASSIGNMENT:
        return drive_assignment
    rule = BASELINES[policy].rule

    def follow(world: World, clock: Callable[[], float]) -> list[float]:
        rollout(world, make_profile(world), rule, 1 << 60)
        return []

    return follow
