"""What does a pass over the frontier expect of each place? Its availability profile, with what was placed so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.jit.bundle import Bundle
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import Floats, Ints, World
from airflow_fate.physics.world.tables import Table, zeros

NEVER_S = 1e18
EVER_S = NEVER_S / 2
"""After anything that will be: sums with `NEVER_S` that lost a little are still never."""
_ROWS = 96
"""Ends, and later prefills, that are kept of each place; the standard suites need 49."""


class NominationRow:
    """A stage that waits for a busy place: how long it has the prefill slot, and when it would end."""

    stage: int
    place: int
    prefill_s: float
    end_s: float


class DecisionRow:
    """A stage that was bound or is nominated for a busy place (``held``), as it was estimated; and its next best
    place (``rival``)."""

    stage: int
    place: int
    prompts: int
    held: int
    resident: int
    rival: int
    start_s: float
    begin_s: float
    end_s: float
    finish_s: float
    price_s: float
    load_s: float
    transfer_s: float
    cached: float
    rival_s: float


class CountsRow:
    """One row: how far the lists are filled, and the longest mean execution time of the frontier."""

    traced: int
    nominated: int
    soon: int
    longest_s: float


@dataclass(frozen=True)
class Profile(Bundle):
    """Scratch arrays, filled anew for each pass; one row per place, where not said otherwise."""

    prefill_free_s: Floats
    """When the prefill slot comes free for a shard that could start now."""
    busy_from_s: Floats
    """[place, k] prefills that wait for their model, their inputs or a nomination have the slot from here"""
    busy_until_s: Floats
    """to here, soonest first; others may go before them, if they have ended by then."""
    busy_intervals: Ints
    """How many rows of the two are filled."""
    exclusive_until_s: Floats
    """When all that runs on places that share a device has ended."""
    nominated_from_s: Floats
    """When the first stage begins that is nominated for the place; `NEVER_S` where none is."""
    loads_done_s: Floats
    """[device] when its loads have ended."""
    used_bytes: Floats
    """[device]"""
    ready_s: Floats
    """[place, model] from when the model can be used; `NEVER_S` where it is neither resident nor on its way."""
    in_use_until_s: Floats
    """[place, model] when its last user ends."""
    fits_from_s: Floats
    """[place, model] from when the model fits; -1 where that is not known yet. ``forecast.residency`` owns it"""
    eviction_cost_s: Floats
    """[place, model] and this: what the evictions cost those that come after."""
    slot_end_s: Floats
    """[place, k] ends of the bound shards, soonest first."""
    slot_sequences: Ints
    slot_context: Floats
    """[place, k] tokens of their context."""
    slots: Ints
    """How many rows of the two are filled."""
    sequences: Ints
    """Sequences bound."""
    context_tokens: Floats
    """Tokens of their context."""
    replicas: Ints
    """[model] places that have it."""
    need: Floats
    """[model] places that it should have."""
    supply: Floats
    """[model] places that it has, those shared with other models in part."""
    pressure: Floats
    """How much the place is needed, over the mean."""
    lower_bound_s: Floats
    """What the place can't beat, for the stage in hand."""
    victims: Ints
    """[2, n] place and model of the evictions that were chosen last."""
    stage_end_s: Floats
    """[stage] when it is expected to end; -1 where it is not under way."""
    begins_s: Floats
    """[stage] from when one that will be ready soon can begin."""
    soon: Ints
    """[stage] those that will be ready soon."""
    keys: Floats
    """[stage] of the frontier, and of those that will be ready soon."""
    order: Ints
    """[stage] the same, most urgent first."""
    waiting: Ints
    """[model] stages that found no place in this pass."""
    unseen: Ints
    """[model] stages of the frontier that were not looked at yet."""
    split: Ints
    """Prompts of a batch, while it is split."""
    arriving: NDArray[np.int8]
    """[cell] how a segment comes to a place; 0 where it doesn't."""
    holders: Ints
    """[segment] places that have it; -1 where no known stage begins with it."""
    lost_prefix_s: Floats
    """[place, model] prefixes that only this place has."""
    nominations: Table[NominationRow]
    """Stages that wait for busy places, in the order in which they were nominated."""
    counts: Table[CountsRow]
    trace: Table[DecisionRow]
    """What was decided, where somebody wants to know."""


def make_profile(world: World, explain: bool = False) -> Profile:
    """Room for passes over the world.

    :param explain: have them say what they decided and what else there was.
    """
    places, devices, models = world.places.shape[0], world.devices.shape[0], world.models.shape[0]
    stages = world.stages.shape[0]

    def floats(*shape: int) -> Floats:
        return np.zeros(shape)

    def ints(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    return Profile(
        prefill_free_s=floats(places),
        busy_from_s=floats(places, _ROWS),
        busy_until_s=floats(places, _ROWS),
        busy_intervals=ints(places),
        exclusive_until_s=floats(places),
        nominated_from_s=floats(places),
        loads_done_s=floats(devices),
        used_bytes=floats(devices),
        ready_s=floats(places, models),
        in_use_until_s=floats(places, models),
        fits_from_s=floats(places, models),
        eviction_cost_s=floats(places, models),
        slot_end_s=floats(places, _ROWS),
        slot_sequences=ints(places, _ROWS),
        slot_context=floats(places, _ROWS),
        slots=ints(places),
        sequences=ints(places),
        context_tokens=floats(places),
        replicas=ints(models),
        need=floats(models),
        supply=floats(models),
        pressure=floats(places),
        lower_bound_s=floats(places),
        victims=ints(2, places * models + 1),
        stage_end_s=floats(stages),
        begins_s=floats(stages),
        soon=ints(stages),
        keys=floats(stages + 1),
        order=ints(stages + 1),
        waiting=ints(models),
        unseen=ints(models),
        split=ints(places),
        arriving=np.zeros(world.cells.shape[0], dtype=np.int8),
        holders=ints(world.segments.shape[0]),
        lost_prefix_s=floats(places, models),
        nominations=zeros(NominationRow, stages + 1),
        counts=zeros(CountsRow, 1),
        trace=zeros(DecisionRow, world.shards.shape[0] + stages + 1 if explain else 0),
    )


@compiled
def prefill_from_s(profile: Profile, place: int, able_s: float, prefill_s: float) -> float:
    """When the prefill slot is free for so long; HEFT's insertion (Topcuoglu et al. 2002)."""
    begin_s = max(able_s, profile.prefill_free_s[place])
    for k in range(profile.busy_intervals[place]):
        if begin_s + prefill_s <= profile.busy_from_s[place, k] + SAME_TIME_S:
            return begin_s
        begin_s = max(begin_s, profile.busy_until_s[place, k])
    return begin_s


@compiled
def take_prefill(profile: Profile, place: int, begin_s: float, end_s: float) -> None:
    """The prefill slot is taken from begin to end."""
    if begin_s <= profile.prefill_free_s[place] + SAME_TIME_S:
        profile.prefill_free_s[place] = max(profile.prefill_free_s[place], end_s)
        return
    at = profile.busy_intervals[place]
    if at == _ROWS:
        # The last two become one.
        at -= 1
        last_s = max(profile.busy_until_s[place, at - 1], profile.busy_until_s[place, at])
        profile.busy_until_s[place, at - 1] = last_s
    profile.busy_intervals[place] = at + 1
    while at > 0 and profile.busy_from_s[place, at - 1] > begin_s:
        profile.busy_from_s[place, at] = profile.busy_from_s[place, at - 1]
        profile.busy_until_s[place, at] = profile.busy_until_s[place, at - 1]
        at -= 1
    profile.busy_from_s[place, at] = begin_s
    profile.busy_until_s[place, at] = end_s


@compiled
def take_slots(profile: Profile, place: int, end_s: float, sequences: int, context_tokens: float) -> None:
    """So many sequence slots are taken until the end, by sequences with so much context."""
    count = profile.slots[place]
    profile.sequences[place] += sequences
    profile.context_tokens[place] += context_tokens
    if count == _ROWS:
        if profile.slot_end_s[place, count - 1] <= end_s:
            return
        count -= 1
    at = count
    while at > 0 and profile.slot_end_s[place, at - 1] > end_s:
        profile.slot_end_s[place, at] = profile.slot_end_s[place, at - 1]
        profile.slot_sequences[place, at] = profile.slot_sequences[place, at - 1]
        profile.slot_context[place, at] = profile.slot_context[place, at - 1]
        at -= 1
    profile.slot_end_s[place, at] = end_s
    profile.slot_sequences[place, at] = sequences
    profile.slot_context[place, at] = context_tokens
    profile.slots[place] = count + 1


@compiled
def slots_from_s(world: World, profile: Profile, place: int, prompts: int) -> float:
    """When there is room for the sequences; a batch beyond ``max_seqs`` needs the place for itself."""
    now = world.tally[0].now
    most = world.places[place].max_seqs
    sequences = profile.sequences[place]
    if sequences == 0 or sequences + prompts <= most:
        return now
    for k in range(profile.slots[place]):
        sequences -= profile.slot_sequences[place, k]
        if sequences <= 0 or sequences + prompts <= most:
            return profile.slot_end_s[place, k]
    return profile.slot_end_s[place, profile.slots[place] - 1]


@compiled
def last_end_s(world: World, profile: Profile, place: int) -> float:
    """When all that runs on the place, or is nominated for it, has ended."""
    count = profile.slots[place]
    return max(world.tally[0].now, profile.slot_end_s[place, count - 1]) if count > 0 else world.tally[0].now


@compiled
def batch_at(profile: Profile, place: int, t: float, most: int) -> tuple[int, float]:
    """(sequences that are still decoding at that time, tokens of their context); no more than so many."""
    count, context = 0, 0.0
    for k in range(profile.slots[place] - 1, -1, -1):
        if profile.slot_end_s[place, k] <= t:
            break
        count += profile.slot_sequences[place, k]
        context += profile.slot_context[place, k]
    if count > most:
        return most, context * most / count
    return count, context


@compiled
def prefill_busy_s(profile: Profile, place: int, from_s: float) -> float:
    """Seconds after that time in which prompts are being computed, as far as they are known."""
    busy_s = max(0.0, profile.prefill_free_s[place] - from_s)
    for k in range(profile.busy_intervals[place]):
        begin_s = max(from_s, profile.prefill_free_s[place], profile.busy_from_s[place, k])
        busy_s += max(0.0, profile.busy_until_s[place, k] - begin_s)
    return busy_s


@compiled
def loads_done_s(world: World, profile: Profile, place: int) -> float:
    """When the devices of the place have ended their loads."""
    done_s = world.tally[0].now
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        done_s = max(done_s, profile.loads_done_s[world.member_indices[k]])
    return done_s


@compiled
def exclude(world: World, profile: Profile, place: int, until_s: float) -> None:
    """Places that share a device with this one are taken until then."""
    for k in range(world.overlap_indptr[place], world.overlap_indptr[place + 1]):
        other = world.overlap_indices[k]
        profile.exclusive_until_s[other] = max(profile.exclusive_until_s[other], until_s)
