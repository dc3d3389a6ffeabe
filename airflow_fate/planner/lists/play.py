"""What comes of a rule? The kernel's events and the rule's passes in turn, for a while or to the end."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import advance
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.decide import decide
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import View


@compiled
def play(world: World, view: View, rule: Rule, moments: int) -> int:
    """Play so many moments, or until nothing is left to come; how many were played."""
    for k in range(moments):
        if not advance(world):
            return k
        decide(world, view, rule)
    return moments
