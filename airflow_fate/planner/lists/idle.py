"""Is there something for a place that nobody wanted?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import READY, World
from airflow_fate.planner.lists.atbest import at_best
from airflow_fate.planner.lists.binding import bind
from airflow_fate.planner.lists.quote import quote
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, NOW_S, View


@compiled
def use_idle(world: World, view: View, rule: Rule) -> None:
    """Give such places to waiting stages that end earlier there.

    A stage waits beside free places where computing its prefix once more would take their time from others; where no
    other stage has taken that time, it is free.
    """
    latest_s = world.tally[0].now + NOW_S
    for k in range(view.marks[0].turns):
        stage = view.turns[k]
        m = world.stages[stage].model
        if world.stages[stage].status != READY:
            continue
        best, best_s = -1, view.turn_end_s[k]
        for place in range(world.places.shape[0]):
            soonest_s, _ = at_best(world, view, rule, stage, place, latest_s)
            if soonest_s >= best_s:
                continue
            start_s, _, _, finish_s, _ = quote(world, view, rule, stage, place, world.stages[stage].prompts)
            if start_s > latest_s:
                continue
            if view.ready_s[place, m] >= NEVER_S:
                finish_s += view.harm_s[place, m]
            if finish_s < best_s:
                best, best_s = place, finish_s
        if best >= 0:
            bind(world, view, rule, stage, best)
