"""When does each place come free, before anything is placed?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.estimated import OVERDUE
from airflow_fate.physics.kernel.prefixes import prefill_tokens
from airflow_fate.physics.kernel.residency import read_s
from airflow_fate.physics.kernel.world import ABSENT, ASKED, LOADED, World
from airflow_fate.planner.lists.prefixes import follow, found_tokens
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import (
    EVER_S,
    NEVER_S,
    View,
    lane_from_s,
    last_end_s,
    seats_from_s,
    take_lane,
    take_seat,
)


@compiled
def _use(view: View, stage: int, place: int, model: int, end_s: float, seqs: int) -> None:
    view.ends_s[stage] = max(view.ends_s[stage], end_s)
    take_seat(view, place, end_s, seqs)
    view.until_s[place, model] = max(view.until_s[place, model], end_s)


@compiled
def _expect_decode(world: World, view: View, shard: int, from_s: float, slowed: float) -> None:
    """Count a bound shard that does not decode yet, from when its prompts are computed and it has its seats."""
    one = world.shards[shard]
    s = world.stages[one.stage]
    begin_s = max(from_s, seats_from_s(world, view, one.place, one.prompts))
    end_s = begin_s + s.expected_tokens / world.decode_tps[s.model, one.place] * slowed
    _use(view, one.stage, one.place, s.model, end_s, one.prompts)


@compiled
def _expect_shard(world: World, view: View, rule: Rule, shard: int) -> None:
    """Count a bound shard that has not begun its prefill."""
    one = world.shards[shard]
    place = one.place
    s = world.stages[one.stage]
    able_s = max(one.inputs_s, min(view.ready_s[place, s.model], EVER_S))
    cached = found_tokens(world, view, rule, one.stage, place, True)
    tokens = prefill_tokens(world, one.stage, one.prompts, cached)
    prefill_s = tokens / world.prefill_tps[s.model, place]
    begin_s = lane_from_s(view, place, able_s, prefill_s)
    slowed = 1.0 + world.tally[0].decode_slowdown * (world.places[place].decoding + one.prompts - 1)
    _expect_decode(world, view, shard, begin_s + prefill_s, slowed)
    follow(world, view, one.stage, place, True)
    take_lane(view, place, begin_s, begin_s + prefill_s)


@compiled
def _expect_decoding(world: World, view: View, place: int, slowed: float) -> None:
    """Count those that decode there: what they had at the last event, and have had since."""
    p = world.places[place]
    done_s = p.virtual_s + (world.tally[0].now - p.virtual_at_s) / slowed
    shard = p.run_head
    while shard >= 0:
        one = world.shards[shard]
        s = world.stages[one.stage]
        tps = world.decode_tps[s.model, place]
        expected_s = s.expected_tokens / tps
        own_s = done_s - (one.virtual_end_s - s.output_tokens / tps)
        left_s = max(expected_s - own_s, OVERDUE * max(expected_s, own_s))
        _use(view, one.stage, place, s.model, world.tally[0].now + left_s * slowed, one.prompts)
        shard = one.next


@compiled
def _expect_bound(world: World, view: View, rule: Rule, place: int) -> None:
    """Count all that is bound to the place, in the order in which it will be served."""
    p, now, slowdown = world.places[place], world.tally[0].now, world.tally[0].decode_slowdown
    slowed = 1.0 + slowdown * max(0, p.decoding - 1)
    _expect_decoding(world, view, place, slowed)
    shard = p.seat_head
    while shard >= 0:
        one = world.shards[shard]
        _expect_decode(world, view, shard, now, slowed + slowdown * one.prompts)
        shard = one.next
    if p.lane_shard >= 0:
        one = world.shards[p.lane_shard]
        view.lane_s[place] = max(now, p.lane_until_s)
        follow(world, view, one.stage, place, True)
        _expect_decode(world, view, p.lane_shard, view.lane_s[place], slowed + slowdown * one.prompts)
    for first in (p.lane_head, p.wait_head):
        shard = first
        while shard >= 0:
            _expect_shard(world, view, rule, shard)
            shard = world.shards[shard].next


@compiled
def _expect_models(world: World, view: View, place: int) -> None:
    """What is loaded there, or is being loaded."""
    now = world.tally[0].now
    for m in range(world.models.shape[0]):
        there = world.resident[place, m]
        view.until_s[place, m] = now
        view.room_s[place, m] = -1.0
        view.ready_s[place, m] = NEVER_S
        if there.status == ABSENT:
            continue
        view.replicas[m] += 1
        view.ready_s[place, m] = now if there.status == LOADED else max(now, there.ready_s)
        if there.status != LOADED and there.status != ASKED:
            for k in range(world.member_at[place], world.member_at[place + 1]):
                d = world.member[k]
                view.gate_s[d] = max(view.gate_s[d], there.ready_s)


@compiled
def _expect_loads(world: World, view: View) -> None:
    """What is asked for is loaded one after another."""
    for k in range(world.tally[0].loads):
        place, m = world.loads[k].place, world.loads[k].model
        start_s = world.tally[0].now
        for j in range(world.member_at[place], world.member_at[place + 1]):
            start_s = max(start_s, view.gate_s[world.member[j]])
        end_s = start_s + read_s(world, place, m)
        for j in range(world.member_at[place], world.member_at[place + 1]):
            view.gate_s[world.member[j]] = end_s
        view.ready_s[place, m] = end_s


@compiled
def fill(world: World, view: View, rule: Rule) -> None:
    """Of what is bound, as far as it is known: ends are those of expected outputs."""
    now, marks = world.tally[0].now, view.marks[0]
    marks.booked = marks.turns = marks.foreseen = 0
    marks.from_s = now
    marks.longest_s = marks.behind = marks.most = 0.0
    view.ends_s[:] = -1.0
    view.coming[:] = 0
    view.gate_s[:] = now
    for d in range(world.devices.shape[0]):
        view.used_bytes[d] = world.devices[d].used_bytes
    view.replicas[:] = 0
    view.holds[:] = 0
    view.left[:] = 0
    view.closed_s[:] = view.lane_s[:] = now
    view.held_s[:] = NEVER_S
    view.seats[:] = 0
    view.seqs[:] = 0
    view.laters[:] = 0
    places = world.places.shape[0]
    for place in range(places):
        _expect_models(world, view, place)
    _expect_loads(world, view)
    for place in range(places):
        if world.places[place].bound_shards == 0:
            continue
        _expect_bound(world, view, rule, place)
        end_s = last_end_s(world, view, place)
        for k in range(world.overlap_at[place], world.overlap_at[place + 1]):
            other = world.overlap[k]
            view.closed_s[other] = max(view.closed_s[other], end_s)
