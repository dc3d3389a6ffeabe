"""When does a place come free for a model?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.quote import gate_s
from airflow_fate.planner.lists.rooms import room
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, View, seats_from_s


@compiled
def first_free_s(world: World, view: View, rule: Rule, model: int) -> float:
    """The first one for a single prompt, after all that was placed; `NEVER_S` where no usable place can serve it."""
    first_s = NEVER_S
    for place in range(world.places.shape[0]):
        if world.prefill_tps[model, place] <= 0.0 or world.places[place].usable == 0:
            continue
        at_s = max(seats_from_s(world, view, place, 1), view.closed_s[place], view.lane_s[place] - rule.bind_ahead_s)
        if view.ready_s[place, model] < NEVER_S:
            at_s = max(at_s, view.ready_s[place, model] - rule.bind_ahead_s)
        else:
            if view.room_s[place, model] < 0.0:
                room(world, view, rule, place, model)
            at_s = max(at_s, view.room_s[place, model], gate_s(world, view, place))
        first_s = min(first_s, at_s)
    return first_s
