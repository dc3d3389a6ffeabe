"""When would a stage start and end on a place? Times alone; what that costs others is ``dispatch.price``."""

from __future__ import annotations

from typing import NamedTuple

from airflow_fate.physics.dynamics.residency import read_s
from airflow_fate.physics.jit import terms
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.forecast.pace import own_context_tokens, prefill_stretch, stall_s, step
from airflow_fate.planner.forecast.prefixes import expected_prefill
from airflow_fate.planner.forecast.profile import (
    EVER_S,
    NEVER_S,
    Profile,
    batch_at,
    loads_done_s,
    prefill_busy_s,
    prefill_from_s,
    slots_from_s,
)
from airflow_fate.planner.forecast.residency import fits_from_s
from airflow_fate.planner.forecast.sight import Eviction, Sight, Timing

MOVING_S = 0.5
"""A stage may be bound up to this long before its prefill slot is free, if its inputs take as long to move there."""


class Candidate(NamedTuple):
    """A stage in hand.

    :param from_s: from when it can begin.
    :param behind: stages per place that wait behind it, up to a few.
    :param most_cached: tokens of its first prompt that lie on the place which has most of them.
    """

    stage: int
    from_s: float
    behind: float
    most_cached: float


class Estimate(NamedTuple):
    """What a stage would meet on a place.

    :param start_s: when it may be bound: where it must load its model, when the load may begin; else when the prefill
        slot comes free. `NEVER_S` where the place can't serve it.
    :param begin_s: when the prompt would begin to be computed.
    :param end_s: when that would end.
    :param prefill_s: seconds of the prefill slot.
    :param prompt_s: seconds of computing its prompts, were they alone.
    :param lone_s: seconds of decoding, were it alone.
    :param decode_s: seconds of decoding beside the others.
    :param beside: sequences of the others.
    :param cached_tokens: of the first prompt, that need not be computed.
    """

    start_s: float
    begin_s: float
    end_s: float
    finish_s: float
    prefill_s: float
    prompt_s: float
    lone_s: float
    decode_s: float
    beside: int
    cached_tokens: float


CANNOT = Estimate(NEVER_S, 0.0, 0.0, NEVER_S, 0.0, 0.0, 0.0, 0.0, 0, 0.0)


@compiled
def latest_start_s(timing: Timing, from_s: float) -> float:
    """Until when a place must come free to count for a stage that can begin at ``from_s``."""
    return EVER_S if timing.waits else from_s + SAME_TIME_S


@compiled
def transfer_s(world: World, stage: int, place: int) -> float:
    """Seconds to bring the outputs of the stage's parents to the place, one after another."""
    node, gbps = world.places[place].node, world.places[place].gbps
    total = 0.0
    for k in range(world.parent_indptr[stage], world.parent_indptr[stage + 1]):
        q = world.stages[world.parent_indices[k]]
        for i in range(q.first_shard, q.first_shard + q.shards):
            source = world.shards[i]
            if world.places[source.place].node != node:
                moved_bytes = q.output_bytes * (source.prompts / q.prompts)
                total += terms.transfer_s(moved_bytes, gbps, world.tally[0].latency_s)
    return total


@compiled
def estimate(
    world: World,
    profile: Profile,
    sight: Sight,
    timing: Timing,
    eviction: Eviction,
    candidate: Candidate,
    place: int,
    prompts: int,
) -> Estimate:
    """What so many of the stage's prompts would meet there.

    Before the first stage that is nominated for the place, it may use the gap if it ends by then (backfilling, as EASY
    does it: Lifka 1995).
    """
    p, gap_s = world.places[place], profile.nominated_from_s[place]
    if gap_s < NEVER_S and (p.bound_seqs == 0 or p.bound_seqs + prompts <= p.max_seqs):
        now = world.tally[0].now
        in_gap = _estimate_from(world, profile, sight, timing, eviction, candidate, place, prompts, now)
        if in_gap.finish_s <= gap_s:
            return in_gap
    slots_s = slots_from_s(world, profile, place, prompts)
    return _estimate_from(world, profile, sight, timing, eviction, candidate, place, prompts, slots_s)


@compiled
def _estimate_from(
    world: World,
    profile: Profile,
    sight: Sight,
    timing: Timing,
    eviction: Eviction,
    candidate: Candidate,
    place: int,
    prompts: int,
    slots_s: float,
) -> Estimate:
    """The same, where there is room for its sequences from ``slots_s`` on."""
    stage = candidate.stage
    s = world.stages[stage]
    m = s.model
    if world.prefill_tps[m, place] <= 0.0 or world.places[place].usable == 0 or _avoids(world, stage, place):
        return CANNOT
    start_s = max(slots_s - timing.overlap * s.work_s, profile.exclusive_until_s[place], candidate.from_s)
    moving_s = transfer_s(world, stage, place)
    seen_moving_s = moving_s if sight.sees_transfers else 0.0
    ready_s = profile.ready_s[place, m]
    free_s = profile.prefill_free_s[place]
    early_s = max(min(moving_s, MOVING_S), timing.bind_ahead_s)
    if ready_s >= NEVER_S:
        fits_s = fits_from_s(world, profile, eviction, place, m)
        start_s = max(start_s, fits_s, loads_done_s(world, profile, place))
        if start_s >= NEVER_S:
            return CANNOT
        load_s = read_s(world, place, m) if sight.sees_loads else 0.0
        able_s = start_s + max(load_s, seen_moving_s)
    else:
        start_s = max(start_s, free_s - early_s, ready_s - early_s)
        able_s = max(start_s + seen_moving_s, ready_s)
    now = start_s <= world.tally[0].now + SAME_TIME_S
    cached, prompt_s = expected_prefill(world, profile, sight, stage, place, prompts, now)
    prefill_s = prompt_s * _stretch(world, profile, place, m, able_s, prompt_s)
    begin_s = prefill_from_s(profile, place, able_s, prefill_s)
    if begin_s > max(able_s, free_s):
        # Who is able first is computed first: bound now, it would take the slot from those that were placed before it.
        start_s = max(start_s, begin_s - early_s)
        if now:
            cached, prompt_s = expected_prefill(world, profile, sight, stage, place, prompts, False)
            prefill_s = prompt_s * _stretch(world, profile, place, m, able_s, prompt_s)
            begin_s = prefill_from_s(profile, place, able_s, prefill_s)
    end_s = begin_s + prefill_s
    decode_at_s = max(end_s, slots_s)
    lone_s = s.expected_tokens / world.decode_tps[m, place]
    beside, context = batch_at(profile, place, decode_at_s, max(0, world.places[place].max_seqs - prompts))
    pace = step(world, place, m, beside + prompts, context + own_context_tokens(world, stage, prompts))
    decode_s = lone_s * pace
    if world.places[place].batch_tokens > 0:
        busy_s = prefill_busy_s(profile, place, decode_at_s)
        decode_s += stall_s(world, place, m, beside + prompts, pace, decode_s, busy_s)
    finish_s = decode_at_s + decode_s
    return Estimate(start_s, begin_s, end_s, finish_s, prefill_s, prompt_s, lone_s, decode_s, beside, cached)


@compiled
def _stretch(world: World, profile: Profile, place: int, model: int, at_s: float, prompt_s: float) -> float:
    """How many times longer than alone the prompts would take, beside those who decode at that time."""
    if world.places[place].batch_tokens == 0:
        return 1.0
    beside, context = batch_at(profile, place, at_s, world.places[place].max_seqs)
    return prefill_stretch(world, place, model, beside, context, prompt_s)


@compiled
def _avoids(world: World, stage: int, place: int) -> bool:
    """Whether the stage shall not be tried there again."""
    for k in range(world.avoid_indptr[stage], world.avoid_indptr[stage + 1]):
        if world.avoid_indices[k] == place:
            return True
    return False


@compiled
def first_free_s(world: World, profile: Profile, timing: Timing, eviction: Eviction, model: int) -> float:
    """When the first place comes free for one prompt, after all that was placed; `NEVER_S` where no usable place can
    serve it."""
    first_s = NEVER_S
    for place in range(world.places.shape[0]):
        if world.prefill_tps[model, place] <= 0.0 or world.places[place].usable == 0:
            continue
        free_s = profile.prefill_free_s[place] - timing.bind_ahead_s
        at_s = max(slots_from_s(world, profile, place, 1), profile.exclusive_until_s[place], free_s)
        if profile.ready_s[place, model] < NEVER_S:
            at_s = max(at_s, profile.ready_s[place, model] - timing.bind_ahead_s)
        else:
            fits_s = fits_from_s(world, profile, eviction, place, model)
            at_s = max(at_s, fits_s, loads_done_s(world, profile, place))
        first_s = min(first_s, at_s)
    return first_s
