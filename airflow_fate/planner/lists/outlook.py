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
def fill(world: World, view: View, rule: Rule) -> None:
    """Of what is bound, as far as it is known: ends are those of expected outputs."""
    tally = world.tally
    view.marks[0].booked = view.marks[0].turns = view.marks[0].foreseen = 0
    view.marks[0].from_s = tally[0].now
    view.ends_s[:] = -1.0
    view.coming[:] = 0
    view.marks[0].longest_s = view.marks[0].behind = view.marks[0].most = 0.0
    now, slowdown = tally[0].now, tally[0].decode_slowdown
    places, models = world.places.shape[0], world.models.shape[0]
    for d in range(world.devices.shape[0]):
        view.used_bytes[d] = world.devices[d].used_bytes
        view.gate_s[d] = now
    for m in range(models):
        view.replicas[m] = 0
        view.holds[m] = 0
        view.left[m] = 0
    for place in range(places):
        view.closed_s[place] = now
        view.held_s[place] = NEVER_S
        view.seats[place] = 0
        view.seqs[place] = 0
        view.lane_s[place] = now
        view.laters[place] = 0
        for m in range(models):
            there = world.resident[place, m]
            view.until_s[place, m] = now
            view.room_s[place, m] = -1.0
            view.ready_s[place, m] = NEVER_S
            if there.status != ABSENT:
                view.replicas[m] += 1
                view.ready_s[place, m] = now if there.status == LOADED else max(now, there.ready_s)
                if there.status != LOADED and there.status != ASKED:
                    for k in range(world.member_at[place], world.member_at[place + 1]):
                        d = world.member[k]
                        view.gate_s[d] = max(view.gate_s[d], there.ready_s)
    for k in range(tally[0].loads):
        place, m = world.loads[k].place, world.loads[k].model
        start_s = now
        for j in range(world.member_at[place], world.member_at[place + 1]):
            start_s = max(start_s, view.gate_s[world.member[j]])
        end_s = start_s + read_s(world, place, m)
        for j in range(world.member_at[place], world.member_at[place + 1]):
            view.gate_s[world.member[j]] = end_s
        view.ready_s[place, m] = end_s
    for place in range(places):
        p = world.places[place]
        if p.bound_shards > 0:
            virtual_s = p.virtual_s
            factor = 1.0 + slowdown * max(0, p.decoding - 1)
            if p.decoding > 0:
                virtual_s += (now - p.virtual_at_s) / factor
            shard = p.run_head
            while shard >= 0:
                one = world.shards[shard]
                s = world.stages[one.stage]
                tps = world.decode_tps[s.model, place]
                expected_s = s.expected_tokens / tps
                done_s = virtual_s - (one.virtual_end_s - s.output_tokens / tps)
                left_s = max(expected_s - done_s, OVERDUE * max(expected_s, done_s))
                _use(view, one.stage, place, s.model, now + left_s * factor, one.prompts)
                shard = one.next
            shard = p.seat_head
            while shard >= 0:
                _expect_decode(world, view, shard, now, factor + slowdown * world.shards[shard].prompts)
                shard = world.shards[shard].next
            if p.lane_shard >= 0:
                view.lane_s[place] = max(now, p.lane_until_s)
                follow(world, view, world.shards[p.lane_shard].stage, place, True)
                _expect_decode(
                    world,
                    view,
                    p.lane_shard,
                    view.lane_s[place],
                    factor + slowdown * world.shards[p.lane_shard].prompts,
                )
            for first in (p.lane_head, p.wait_head):
                shard = first
                while shard >= 0:
                    _expect_shard(world, view, rule, shard)
                    shard = world.shards[shard].next
            end_s = last_end_s(world, view, place)
            for k in range(world.overlap_at[place], world.overlap_at[place + 1]):
                other = world.overlap[k]
                view.closed_s[other] = max(view.closed_s[other], end_s)
