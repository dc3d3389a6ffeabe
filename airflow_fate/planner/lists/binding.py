"""How is a choice carried out? In the world, and in the view of those behind it."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import begin_binding, bind_shard
from airflow_fate.physics.kernel.residency import evict, evictable
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.booked import book
from airflow_fate.planner.lists.quote import quote, reserve
from airflow_fate.planner.lists.rooms import choose_victims
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, View


@compiled
def bind(world: World, view: View, rule: Rule, stage: int, place: int) -> None:
    """Bind the whole stage to the place."""
    begin_binding(world, stage)
    bind_part(world, view, rule, stage, place, world.stages[stage].prompts)


@compiled
def bind_part(world: World, view: View, rule: Rule, stage: int, place: int, prompts: int) -> None:
    """Bind some of its prompts to the place; idle models leave where its own needs their room."""
    m = world.stages[stage].model
    offer = quote(world, view, rule, stage, place, prompts)
    book(world, view, rule, stage, place, prompts, 0, offer)
    victims = 0
    if view.ready_s[place, m] >= NEVER_S:
        victims = choose_victims(world, view, rule, place, m)
        idle = victims >= 0
        for k in range(victims):
            idle = idle and evictable(world, view.victims[0, k], view.victims[1, k])
        if idle:
            for k in range(victims):
                evict(world, view.victims[0, k], view.victims[1, k])
    reserve(world, view, rule, stage, place, prompts, offer, max(0, victims))
    bind_shard(world, stage, place, prompts)
