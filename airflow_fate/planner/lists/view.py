"""What does a pass over the frontier keep in mind? What it expects of each place, with what it has placed so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel.bundle import Bundle
from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.world import Records, World, records

NEVER_S = 1e18
NOW_S = 1e-9
"""What begins within this begins now."""
EVER_S = NEVER_S / 2
"""After anything that will be: sums with `NEVER_S` that lost a little are still never."""
_ROWS = 96
"""Ends, and later prefills, that are kept of each place; the standard suites need 49."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BOOKED = np.dtype(
    [
        ("stage", "i8"),
        ("place", "i8"),
        ("prompts", "i8"),
        ("held", "i8"),
        ("resident", "i8"),
        ("rival", "i8"),
        ("start_s", "f8"),
        ("begin_s", "f8"),
        ("end_s", "f8"),
        ("finish_s", "f8"),
        ("others_s", "f8"),
        ("load_s", "f8"),
        ("moving_s", "f8"),
        ("cached", "f8"),
        ("rival_s", "f8"),
    ]
)
"""A stage that was bound or takes a turn on a busy place (``held``), as it was quoted; and its next best place."""

TURN = np.dtype([("stage", "i8"), ("place", "i8"), ("lane_s", "f8"), ("end_s", "f8")])
"""A turn on a busy place: how long it has the prefill lane, and when the stage would end."""

MARKS = np.dtype(
    [
        ("booked", "i8"),
        ("turns", "i8"),
        ("foreseen", "i8"),
        ("longest_s", "f8"),
        ("from_s", "f8"),
        ("behind", "f8"),
        ("most", "f8"),
    ]
)
"""One row: how far lists are filled; the longest mean execution time of the frontier; of the stage in hand, from when
it can begin, how many per place wait behind it, and the tokens that the place has cached which has most of its
prompt."""


@dataclass(frozen=True)
class View(Bundle):
    """Scratch arrays, filled anew for each pass; one row per place, where not said otherwise."""

    lane_s: Floats
    """When the prefill lane comes free for a shard that could start now."""
    later_from_s: Floats
    """[place, k] prefills that wait for their model, their inputs or their turn take the lane from here"""
    later_until_s: Floats
    """to here, soonest first; others may go before them, if they have ended by then."""
    laters: Ints
    """How many rows of the two are filled."""
    closed_s: Floats
    """When all that runs on places that share a device has ended."""
    held_s: Floats
    """When the first turn begins that is taken for a stage which waits for the place; `NEVER_S` where none is."""
    gate_s: Floats
    """[device] when its loads have ended."""
    used_bytes: Floats
    """[device]"""
    ready_s: Floats
    """[place, model] from when the model can be used; `NEVER_S` where it is neither there nor on its way."""
    until_s: Floats
    """[place, model] when its last user ends."""
    room_s: Floats
    """[place, model] from when the model fits; -1 where that is not known yet."""
    harm_s: Floats
    """[place, model] what the evictions cost those that come after."""
    seat_end_s: Floats
    """[place, seat] ends of the bound shards, soonest first."""
    seat_seqs: Ints
    seats: Ints
    """How many rows of the two are filled."""
    seqs: Ints
    """Sequences bound."""
    replicas: Ints
    """[model] places that have it."""
    need: Floats
    """[model] places that it should have."""
    supply: Floats
    """[model] places that it has, those shared with other models in part."""
    pressure: Floats
    """How much the place is needed, over the mean."""
    bound_s: Floats
    """What the place can't beat, for the stage in hand."""
    victims: Ints
    """[2, n] place and model of the evictions that were chosen last."""
    ends_s: Floats
    """[stage] when it is expected to end; -1 where it is not under way."""
    from_s: Floats
    """[stage] from when a foreseen one can begin."""
    foreseen: Ints
    """[stage] those that will be ready soon."""
    keys: Floats
    """[stage] of the frontier, and of those that are foreseen."""
    order: Ints
    """[stage] the same, most urgent first."""
    holds: Ints
    """[model]"""
    left: Ints
    """[model] stages of the frontier that were not looked at yet."""
    split: Ints
    """Prompts of a batch, while it is split."""
    coming: NDArray[np.int8]
    """[cell] how a segment comes to a place; 0 where it doesn't."""
    holders: Ints
    """[segment] places that have it; -1 where no known stage begins with it."""
    lost_s: Floats
    """[place, model] prefixes that only this place has."""
    turns: Records
    """Stages that wait for busy places, in the order in which they took their turns."""
    marks: Records
    booked: Records
    """What was decided, where somebody wants to know."""


def make_view(world: World, explain: bool = False) -> View:
    """Room for passes over the world.

    :param explain: have them say what they decided and what else there was.
    """
    places, devices, models = world.places.shape[0], world.devices.shape[0], world.models.shape[0]
    stages = world.stages.shape[0]

    def floats(*shape: int) -> Floats:
        return np.zeros(shape)

    def ints(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    return View(
        lane_s=floats(places),
        later_from_s=floats(places, _ROWS),
        later_until_s=floats(places, _ROWS),
        laters=ints(places),
        closed_s=floats(places),
        held_s=floats(places),
        gate_s=floats(devices),
        used_bytes=floats(devices),
        ready_s=floats(places, models),
        until_s=floats(places, models),
        room_s=floats(places, models),
        harm_s=floats(places, models),
        seat_end_s=floats(places, _ROWS),
        seat_seqs=ints(places, _ROWS),
        seats=ints(places),
        seqs=ints(places),
        replicas=ints(models),
        need=floats(models),
        supply=floats(models),
        pressure=floats(places),
        bound_s=floats(places),
        victims=ints(2, places * models + 1),
        ends_s=floats(stages),
        from_s=floats(stages),
        foreseen=ints(stages),
        keys=floats(stages + 1),
        order=ints(stages + 1),
        holds=ints(models),
        left=ints(models),
        split=ints(places),
        coming=np.zeros(world.cells.shape[0], dtype=np.int8),
        holders=ints(world.segments.shape[0]),
        lost_s=floats(places, models),
        turns=records(stages + 1, TURN),
        marks=records(1, MARKS),
        booked=records(world.shards.shape[0] + stages + 1 if explain else 0, BOOKED),
    )


@compiled
def lane_from_s(view: View, place: int, able_s: float, prefill_s: float) -> float:
    """When the prefill lane is free for so long; HEFT's insertion (Topcuoglu et al. 2002)."""
    begin_s = max(able_s, view.lane_s[place])
    for k in range(view.laters[place]):
        if begin_s + prefill_s <= view.later_from_s[place, k] + NOW_S:
            return begin_s
        begin_s = max(begin_s, view.later_until_s[place, k])
    return begin_s


@compiled
def take_lane(view: View, place: int, begin_s: float, end_s: float) -> None:
    if begin_s <= view.lane_s[place] + NOW_S:
        view.lane_s[place] = max(view.lane_s[place], end_s)
        return
    at = view.laters[place]
    if at == _ROWS:
        # The last two become one.
        at -= 1
        view.later_until_s[place, at - 1] = max(view.later_until_s[place, at - 1], view.later_until_s[place, at])
    view.laters[place] = at + 1
    while at > 0 and view.later_from_s[place, at - 1] > begin_s:
        view.later_from_s[place, at] = view.later_from_s[place, at - 1]
        view.later_until_s[place, at] = view.later_until_s[place, at - 1]
        at -= 1
    view.later_from_s[place, at] = begin_s
    view.later_until_s[place, at] = end_s


@compiled
def take_seat(view: View, place: int, end_s: float, seqs: int) -> None:
    count = view.seats[place]
    view.seqs[place] += seqs
    if count == _ROWS:
        if view.seat_end_s[place, count - 1] <= end_s:
            return
        count -= 1
    at = count
    while at > 0 and view.seat_end_s[place, at - 1] > end_s:
        view.seat_end_s[place, at] = view.seat_end_s[place, at - 1]
        view.seat_seqs[place, at] = view.seat_seqs[place, at - 1]
        at -= 1
    view.seat_end_s[place, at] = end_s
    view.seat_seqs[place, at] = seqs
    view.seats[place] = count + 1


@compiled
def seats_from_s(world: World, view: View, place: int, prompts: int) -> float:
    """When there is room for the sequences; a batch beyond ``max_seqs`` needs the place for itself."""
    now = world.tally[0].now
    most = world.places[place].max_seqs
    taken = view.seqs[place]
    if taken == 0 or taken + prompts <= most:
        return now
    for k in range(view.seats[place]):
        taken -= view.seat_seqs[place, k]
        if taken <= 0 or taken + prompts <= most:
            return view.seat_end_s[place, k]
    return view.seat_end_s[place, view.seats[place] - 1]


@compiled
def last_end_s(world: World, view: View, place: int) -> float:
    """When all that runs on the place, or has taken a turn there, has ended."""
    count = view.seats[place]
    return max(world.tally[0].now, view.seat_end_s[place, count - 1]) if count > 0 else world.tally[0].now


@compiled
def sequences_at(view: View, place: int, t: float) -> int:
    """Sequences that are still decoding at that time."""
    count = 0
    for k in range(view.seats[place] - 1, -1, -1):
        if view.seat_end_s[place, k] <= t:
            break
        count += view.seat_seqs[place, k]
    return count
