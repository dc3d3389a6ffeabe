"""When does each place come free, before anything is placed?"""

from __future__ import annotations

from airflow_fate.physics.dynamics.residency import read_s
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import overdue_s
from airflow_fate.physics.world.arrays import ABSENT, ASKED, LOADED, World
from airflow_fate.planner.forecast.pace import own_context_tokens, prefill_stretch, stall_s, step
from airflow_fate.planner.forecast.prefixes import expect_chain, expected_prefill
from airflow_fate.planner.forecast.profile import (
    EVER_S,
    NEVER_S,
    Profile,
    exclude,
    last_end_s,
    loads_done_s,
    prefill_from_s,
    slots_from_s,
    take_prefill,
    take_slots,
)
from airflow_fate.planner.forecast.residency import forget_evictions
from airflow_fate.planner.forecast.sight import Sight


@compiled
def project(world: World, profile: Profile, sight: Sight) -> None:
    """Fill the profile with what is bound, as far as it is known: ends are those of expected outputs."""
    now, counts = world.tally[0].now, profile.counts[0]
    counts.traced = counts.nominated = counts.soon = 0
    counts.longest_s = 0.0
    profile.stage_end_s[:] = -1.0
    profile.arriving[:] = 0
    profile.loads_done_s[:] = now
    for d in range(world.devices.shape[0]):
        profile.used_bytes[d] = world.devices[d].used_bytes
    profile.replicas[:] = 0
    profile.waiting[:] = 0
    profile.unseen[:] = 0
    profile.exclusive_until_s[:] = profile.prefill_free_s[:] = now
    profile.nominated_from_s[:] = NEVER_S
    profile.slots[:] = 0
    profile.sequences[:] = 0
    profile.context_tokens[:] = 0.0
    profile.busy_intervals[:] = 0
    places = world.places.shape[0]
    for place in range(places):
        forget_evictions(world, profile, place)
        _project_models(world, profile, place)
    _project_loads(world, profile)
    for place in range(places):
        if world.places[place].bound_shards == 0:
            continue
        _project_bound(world, profile, sight, place)
        exclude(world, profile, place, last_end_s(world, profile, place))


@compiled
def _project_models(world: World, profile: Profile, place: int) -> None:
    """What is loaded there, or is being loaded."""
    now = world.tally[0].now
    for m in range(world.models.shape[0]):
        resident = world.resident[place, m]
        profile.in_use_until_s[place, m] = now
        profile.ready_s[place, m] = NEVER_S
        if resident.status == ABSENT:
            continue
        profile.replicas[m] += 1
        profile.ready_s[place, m] = now if resident.status == LOADED else max(now, resident.ready_s)
        if resident.status != LOADED and resident.status != ASKED:
            for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
                d = world.member_indices[k]
                profile.loads_done_s[d] = max(profile.loads_done_s[d], resident.ready_s)


@compiled
def _project_loads(world: World, profile: Profile) -> None:
    """What is asked for is loaded one after another."""
    for k in range(world.tally[0].loads):
        place, m = world.loads[k].place, world.loads[k].model
        end_s = loads_done_s(world, profile, place) + read_s(world, place, m)
        for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
            profile.loads_done_s[world.member_indices[j]] = end_s
        profile.ready_s[place, m] = end_s


@compiled
def _project_bound(world: World, profile: Profile, sight: Sight, place: int) -> None:
    """Count all that is bound to the place, in the order in which it will be served."""
    p, now = world.places[place], world.tally[0].now
    queue_until_s = _queue_until_s(world, profile, sight, place)
    _project_decoding(world, profile, place, queue_until_s)
    shard = p.slot_head
    while shard >= 0:
        _project_decode(world, profile, shard, now, _pace_with(world, shard), queue_until_s)
        shard = world.shards[shard].next
    if p.prefill_shard >= 0:
        profile.prefill_free_s[place] = max(now, p.prefill_until_s)
        expect_chain(world, profile, world.shards[p.prefill_shard].stage, place, True)
        prefilled_s = profile.prefill_free_s[place]
        _project_decode(world, profile, p.prefill_shard, prefilled_s, _pace_with(world, p.prefill_shard), queue_until_s)
    for first in (p.prefill_head, p.wait_head):
        shard = first
        while shard >= 0:
            _project_prefill(world, profile, sight, shard, queue_until_s)
            shard = world.shards[shard].next


@compiled
def _queue_until_s(world: World, profile: Profile, sight: Sight, place: int) -> float:
    """Until when the prompts are computed that could be now, where they delay those who decode; else now."""
    p, until_s = world.places[place], world.tally[0].now
    if p.batch_tokens == 0 or p.prefill_shard < 0:
        return until_s
    until_s = max(until_s, p.prefill_until_s)
    shard = p.prefill_head
    while shard >= 0:
        until_s += _prefill_s(world, profile, sight, shard)
        shard = world.shards[shard].next
    return until_s


@compiled
def _prefill_s(world: World, profile: Profile, sight: Sight, shard: int) -> float:
    """Seconds to compute a bound shard's prompts, beside those who decode now."""
    row = world.shards[shard]
    p, m = world.places[row.place], world.stages[row.stage].model
    _, prompt_s = expected_prefill(world, profile, sight, row.stage, row.place, row.prompts, True)
    return prompt_s * prefill_stretch(world, row.place, m, p.decoding, p.context_tokens, prompt_s)


@compiled
def _project_decoding(world: World, profile: Profile, place: int, queue_until_s: float) -> None:
    """Count those that decode there: what they had at the last event, and have had since."""
    p, now = world.places[place], world.tally[0].now
    attained_s = p.attained_s + (now - p.attained_at_s) / (p.step + p.chunk)
    shard = p.decode_head
    while shard >= 0:
        row = world.shards[shard]
        s = world.stages[row.stage]
        tps = world.decode_tps[s.model, place]
        own_s = attained_s - (row.attained_end_s - s.output_tokens / tps)
        left_s = overdue_s(s.expected_tokens / tps, own_s) * p.step
        left_s += stall_s(world, place, s.model, p.decoding, p.step, left_s, queue_until_s - now)
        _use(world, profile, row.stage, place, now + left_s, row.prompts)
        shard = row.next


@compiled
def _project_prefill(world: World, profile: Profile, sight: Sight, shard: int, queue_until_s: float) -> None:
    """Count a bound shard that has not begun its prefill."""
    row = world.shards[shard]
    place = row.place
    s = world.stages[row.stage]
    able_s = max(row.inputs_s, min(profile.ready_s[place, s.model], EVER_S))
    prefill_s = _prefill_s(world, profile, sight, shard)
    begin_s = prefill_from_s(profile, place, able_s, prefill_s)
    p = world.places[place]
    context = p.context_tokens + own_context_tokens(world, row.stage, row.prompts)
    pace = step(world, place, s.model, p.decoding + row.prompts, context)
    _project_decode(world, profile, shard, begin_s + prefill_s, pace, queue_until_s)
    expect_chain(world, profile, row.stage, place, True)
    take_prefill(profile, place, begin_s, begin_s + prefill_s)


@compiled
def _pace_with(world: World, shard: int) -> float:
    """How many times longer than alone a step takes once the shard decodes beside those who do now."""
    row = world.shards[shard]
    p, m = world.places[row.place], world.stages[row.stage].model
    context = world.context_slowdown[m, row.place] * own_context_tokens(world, row.stage, row.prompts)
    return p.step + world.decode_slowdown[m, row.place] * row.prompts + context


@compiled
def _project_decode(
    world: World, profile: Profile, shard: int, from_s: float, pace: float, queue_until_s: float
) -> None:
    """Count a bound shard that does not decode yet, from when its prompts are computed and it has its slots.

    :param pace: how many times longer than alone its steps take.
    """
    row = world.shards[shard]
    s, place = world.stages[row.stage], row.place
    p, m = world.places[place], s.model
    begin_s = max(from_s, slots_from_s(world, profile, place, row.prompts))
    decode_s = s.expected_tokens / world.decode_tps[m, place] * pace
    decode_s += stall_s(world, place, m, p.decoding + row.prompts, pace, decode_s, queue_until_s - begin_s)
    _use(world, profile, row.stage, place, begin_s + decode_s, row.prompts)


@compiled
def _use(world: World, profile: Profile, stage: int, place: int, end_s: float, sequences: int) -> None:
    model = world.stages[stage].model
    profile.stage_end_s[stage] = max(profile.stage_end_s[stage], end_s)
    take_slots(profile, place, end_s, sequences, own_context_tokens(world, stage, sequences))
    profile.in_use_until_s[place, model] = max(profile.in_use_until_s[place, model], end_s)
