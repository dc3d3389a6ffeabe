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
    other stage has taken that time, it is free. Those that waited behind it are spared its time on the busy place, for
    which it may itself end a little later.
    """
    latest_s = world.tally[0].now + NOW_S
    longest_s = NOW_S
    for k in range(view.marks[0].turns):
        longest_s = max(longest_s, world.stages[view.turns[k].stage].rank_s)
    for k in range(view.marks[0].turns):
        turn = view.turns[k]
        stage = turn.stage
        m = world.stages[stage].model
        if world.stages[stage].status != READY:
            continue
        best, best_s = -1, turn.end_s
        if rule.cede > 0.0:
            slack = 1.0 - world.stages[stage].rank_s / longest_s
            best_s += rule.cede * slack * turn.lane_s * _behind(world, view, k)
        for place in range(world.places.shape[0]):
            soonest_s, _ = at_best(world, view, rule, stage, place, latest_s)
            if soonest_s >= best_s:
                continue
            offer = quote(world, view, rule, stage, place, world.stages[stage].prompts)
            if offer.start_s > latest_s:
                continue
            finish_s = offer.finish_s
            if view.ready_s[place, m] >= NEVER_S:
                finish_s += view.harm_s[place, m]
            if finish_s < best_s:
                best, best_s = place, finish_s
        if best >= 0:
            bind(world, view, rule, stage, best)


@compiled
def _behind(world: World, view: View, turn: int) -> int:
    """Stages that wait for the same place and come later."""
    count = 0
    for k in range(turn + 1, view.marks[0].turns):
        if view.turns[k].place == view.turns[turn].place and world.stages[view.turns[k].stage].status == READY:
            count += 1
    return count
