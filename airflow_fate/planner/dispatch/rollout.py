"""What comes of a rule? The event loop and the rule's passes in turn, for a while or to the end."""

from __future__ import annotations

from airflow_fate.physics.dynamics.event_loop import advance
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.profile import Profile


@compiled
def rollout(world: World, profile: Profile, rule: Rule, epochs: int) -> int:
    """Go on for so many decision epochs, or until nothing is left to come; how many there were."""
    for k in range(epochs):
        if not advance(world):
            return k
        dispatch(world, profile, rule)
    return epochs
