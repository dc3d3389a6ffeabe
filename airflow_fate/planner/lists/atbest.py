"""How good can a place be at best? A bound on its quote at a part of the cost, so that most places need none."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.prefixes import prefill_tokens
from airflow_fate.physics.kernel.residency import read_s
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.prefixes import found_tokens
from airflow_fate.planner.lists.quote import MOVING_S, gate_s
from airflow_fate.planner.lists.rooms import room
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, View


@compiled
def at_best(world: World, view: View, rule: Rule, stage: int, place: int, latest_s: float) -> tuple[float, float]:
    """(finish, finish and what it costs others) that a quote for the whole stage is never below.

    Without transfers, without waiting for seats, and without those that decode beside it. Both are `NEVER_S` where it
    can't start by ``latest_s``.
    """
    s = world.stages[stage]
    m, prompts = s.model, s.prompts
    p = world.places[place]
    prefill_tps = world.prefill_tps[m, place]
    from_s, others_s = view.closed_s[place], 0.0
    if prefill_tps <= 0.0 or p.usable == 0 or from_s > latest_s:
        return NEVER_S, NEVER_S
    if view.ready_s[place, m] < NEVER_S:
        from_s = max(from_s, view.lane_s[place], view.ready_s[place, m], view.marks[0].from_s)
        if from_s - max(MOVING_S, rule.bind_ahead_s) > latest_s:
            return NEVER_S, NEVER_S
    else:
        if view.room_s[place, m] < 0.0:
            room(world, view, rule, place, m)
        from_s = max(from_s, view.room_s[place, m], gate_s(world, view, place))
        if from_s > latest_s:
            return NEVER_S, NEVER_S
        from_s += read_s(world, place, m) if rule.sees_loads else 0.0
        from_s = max(from_s, view.lane_s[place], view.marks[0].from_s)
        others_s = view.harm_s[place, m]
    cached = found_tokens(world, view, rule, stage, place, False)
    prefill_s = prefill_tokens(world, stage, prompts, cached) / prefill_tps
    lone_s = s.expected_tokens / world.decode_tps[m, place]
    slowdown = world.tally[0].decode_slowdown
    decode_s = lone_s * (1.0 + slowdown * (prompts - 1))
    others_s += rule.spend * prefill_s
    if rule.reach > 0.0:
        above = view.pressure[place] - 1.0
        most_s = decode_s if above > 0.0 else lone_s * (1.0 + slowdown * (view.seqs[place] + prompts - 1))
        others_s += rule.reach * above * (prefill_s + most_s / p.max_seqs)
    finish_s = from_s + prefill_s + decode_s
    return finish_s, finish_s + others_s
