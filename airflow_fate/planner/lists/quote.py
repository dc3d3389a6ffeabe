"""When would a stage start and end on a place, and what would that cost others?"""

from __future__ import annotations

from typing import NamedTuple

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.prefixes import prefill_tokens
from airflow_fate.physics.kernel.residency import read_s, share_bytes
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.prefixes import follow, found_tokens
from airflow_fate.planner.lists.rooms import forget_rooms, gain, lose, room
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import (
    EVER_S,
    NEVER_S,
    NOW_S,
    View,
    lane_from_s,
    last_end_s,
    seats_from_s,
    sequences_at,
    take_lane,
    take_seat,
)

MOVING_S = 0.5
"""A stage may be bound up to this long before its lane is free, if its inputs take as long to move there."""


class Quote(NamedTuple):
    """What a stage would get on a place."""

    start_s: float
    """When it may be bound: where it must load its model, when the load may begin; else when the lane comes free.
    `NEVER_S` where the place can't serve it."""
    begin_s: float
    """When the prompt would begin to be computed."""
    end_s: float
    """When that would end."""
    finish_s: float
    others_s: float
    """Seconds that it costs others."""
    cached_tokens: float
    """Of the first prompt, that need not be computed."""


CANNOT = Quote(NEVER_S, 0.0, 0.0, NEVER_S, 0.0, 0.0)


@compiled
def latest_start_s(rule: Rule, from_s: float) -> float:
    """Until when a place must come free to count for a stage that can begin at ``from_s``."""
    return EVER_S if rule.waits else from_s + NOW_S


@compiled
def transfer_s(world: World, stage: int, place: int) -> float:
    """Seconds to bring the outputs of the stage's parents to the place, one after another."""
    node, gbps = world.places[place].node, world.places[place].gbps
    total = 0.0
    for k in range(world.parent_at[stage], world.parent_at[stage + 1]):
        q = world.stages[world.parent[k]]
        for i in range(q.first_shard, q.first_shard + q.shards):
            source = world.shards[i]
            if world.places[source.place].node != node:
                total += world.tally[0].latency_s + q.output_bytes * (source.prompts / q.prompts) * 8.0 / (gbps * 1e9)
    return total


@compiled
def gate_s(world: World, view: View, place: int) -> float:
    """When the devices of the place have ended their loads."""
    at_s = world.tally[0].now
    for k in range(world.member_at[place], world.member_at[place + 1]):
        at_s = max(at_s, view.gate_s[world.member[k]])
    return at_s


@compiled
def quote(world: World, view: View, rule: Rule, stage: int, place: int, prompts: int) -> Quote:
    """What so many of the stage's prompts would get there.

    Before a turn that is taken there already, it may use the gap if it ends by then (backfilling, as EASY does it:
    Lifka 1995).
    """
    p, gap_s = world.places[place], view.held_s[place]
    if gap_s < NEVER_S and (p.bound_seqs == 0 or p.bound_seqs + prompts <= p.max_seqs):
        offer = _quote_from(world, view, rule, stage, place, prompts, world.tally[0].now)
        if offer.finish_s <= gap_s:
            return offer
    return _quote_from(world, view, rule, stage, place, prompts, seats_from_s(world, view, place, prompts))


@compiled
def _quote_from(world: World, view: View, rule: Rule, stage: int, place: int, prompts: int, seats_s: float) -> Quote:
    """The same, where there is room for its sequences from ``seats_s`` on."""
    s = world.stages[stage]
    m = s.model
    if world.prefill_tps[m, place] <= 0.0 or world.places[place].usable == 0 or _avoids(world, stage, place):
        return CANNOT
    start_s = max(seats_s - rule.overlap * s.work_s, view.closed_s[place], view.marks[0].from_s)
    moving_s = transfer_s(world, stage, place)
    ready_s = view.ready_s[place, m]
    others_s = 0.0
    lane_s = view.lane_s[place]
    early_s = max(min(moving_s, MOVING_S), rule.bind_ahead_s)
    if ready_s >= NEVER_S:
        if view.room_s[place, m] < 0.0:
            room(world, view, rule, place, m)
        start_s = max(start_s, view.room_s[place, m], gate_s(world, view, place))
        if start_s >= NEVER_S:
            return CANNOT
        load_s = read_s(world, place, m) if rule.sees_loads else 0.0
        able_s = start_s + max(load_s, moving_s if rule.sees_transfers else 0.0)
        others_s += view.harm_s[place, m]
    else:
        start_s = max(start_s, lane_s - early_s, ready_s - early_s)
        able_s = max(start_s + (moving_s if rule.sees_transfers else 0.0), ready_s)
    now = start_s <= world.tally[0].now + NOW_S
    cached, prefill_s = _prefill(world, view, rule, stage, place, prompts, now)
    begin_s = lane_from_s(view, place, able_s, prefill_s)
    if begin_s > max(able_s, lane_s):
        # Who is able first is computed first: bound now, it would take the lane from those that were placed before it.
        start_s = max(start_s, begin_s - early_s)
        if now:
            cached, prefill_s = _prefill(world, view, rule, stage, place, prompts, False)
            begin_s = lane_from_s(view, place, able_s, prefill_s)
    end_s = begin_s + prefill_s
    decode_at_s = max(end_s, seats_s)
    lone_s = s.expected_tokens / world.decode_tps[m, place]
    slowdown = world.tally[0].decode_slowdown
    beside = min(sequences_at(view, place, decode_at_s), max(0, world.places[place].max_seqs - prompts))
    decode_s = lone_s * (1.0 + slowdown * (beside + prompts - 1))
    finish_s = decode_at_s + decode_s
    others_s += rule.spend * prefill_s
    if rule.rush > 0.0:
        others_s += rule.rush * view.marks[0].behind * (view.marks[0].most - cached) / world.prefill_tps[m, place]
    if rule.crowd > 0.0:
        others_s += rule.crowd * slowdown * prompts * beside * lone_s * 0.5
    if rule.reach > 0.0:
        others_s += rule.reach * (view.pressure[place] - 1.0) * (prefill_s + decode_s / world.places[place].max_seqs)
    if rule.linger > 0.0:
        others_s += rule.linger * max(0.0, finish_s - last_end_s(world, view, place))
    return Quote(start_s, begin_s, end_s, finish_s, others_s, cached)


@compiled
def _prefill(
    world: World, view: View, rule: Rule, stage: int, place: int, prompts: int, now: bool
) -> tuple[float, float]:
    """(tokens that are cached there, seconds to compute the rest)."""
    cached = found_tokens(world, view, rule, stage, place, now)
    return cached, prefill_tokens(world, stage, prompts, cached) / world.prefill_tps[world.stages[stage].model, place]


@compiled
def _avoids(world: World, stage: int, place: int) -> bool:
    """Whether the stage shall not be tried there again."""
    for k in range(world.avoid_at[stage], world.avoid_at[stage + 1]):
        if world.avoid[k] == place:
            return True
    return False


@compiled
def reserve(
    world: World, view: View, rule: Rule, stage: int, place: int, prompts: int, offer: Quote, victims: int
) -> None:
    """Count the stage on the place, for those behind it. ``view.victims`` says what leaves for its model."""
    waits = offer.start_s > world.tally[0].now + NOW_S
    follow(world, view, stage, place, not waits)
    m = world.stages[stage].model
    if waits and rule.backfill:
        view.held_s[place] = min(view.held_s[place], offer.start_s)
    if view.ready_s[place, m] >= NEVER_S:
        for k in range(victims):
            other, gone = view.victims[0, k], view.victims[1, k]
            lose(world, view, other, gone)
            share = share_bytes(world, gone)
            for j in range(world.member_at[other], world.member_at[other + 1]):
                view.used_bytes[world.member[j]] -= share
            forget_rooms(world, view, other)
        ready_s = offer.start_s + read_s(world, place, m)
        gain(world, view, place, m, ready_s)
        share = share_bytes(world, m)
        for j in range(world.member_at[place], world.member_at[place + 1]):
            d = world.member[j]
            view.used_bytes[d] += share
            view.gate_s[d] = ready_s
    take_lane(view, place, offer.begin_s, offer.end_s)
    view.until_s[place, m] = max(view.until_s[place, m], offer.finish_s)
    take_seat(view, place, offer.finish_s, prompts)
    for k in range(world.overlap_at[place], world.overlap_at[place + 1]):
        other = world.overlap[k]
        view.closed_s[other] = max(view.closed_s[other], offer.finish_s)
    forget_rooms(world, view, place)
