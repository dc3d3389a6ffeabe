"""What must leave so that a model fits on a place, and when can it?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from airflow_fate.cluster import ClusterState, Fleet
from tests.oracle.forecast.occupancy import end_s

EvictionCost = Callable[[str, str], float]
"""(place, model) -> seconds that its eviction costs what comes next."""


@dataclass(frozen=True, slots=True)
class Room:
    """How a model comes to fit.

    :param evict: (place, model) pairs that leave, least harmful first.
    :param from_s: when the last of them is idle; models in use are never evicted.
    """

    evict: tuple[tuple[str, str], ...] = ()
    from_s: float = 0.0


def used_until_s(state: ClusterState, place: str, now: float) -> dict[str, float]:
    """Models in use on the place -> when the last sequence that uses each is estimated to end."""
    until: dict[str, float] = {}
    for running in state.place(place).running:
        until[running.model] = max(until.get(running.model, now), end_s(running, now))
    return until


def make_room(
    fleet: Fleet,
    place: str,
    model: str,
    residents: Mapping[str, Iterable[str]],
    used_until: Callable[[str, str], float],
    overlaps: Iterable[str],
    now: float,
    eviction_cost_s: EvictionCost,
) -> Room | None:
    """The evictions after which the model fits; None when it never does.

    :param residents: place -> models there, in the order in which they were used, longest ago first.
    :param used_until: (place, model) -> when it is idle.
    """
    need_bytes = fleet.models[model].member_bytes
    nearby = (place, *overlaps)
    held_by = {where: {device.id for device in fleet.members(where)} for where in nearby}
    spare = {device.id: device.memory_bytes - need_bytes for device in fleet.members(place)}
    known = [
        (where, age, resident, fleet.models[resident].member_bytes)
        for where in nearby
        for age, resident in enumerate(residents.get(where, ()))
        if resident in fleet.models
    ]
    for where, _, _, held_bytes in known:
        for device in held_by[where] & spare.keys():
            spare[device] -= held_bytes
    if min(spare.values()) >= 0:
        return Room(from_s=now)
    candidates = sorted(
        (max(now, used_until(where, resident)), eviction_cost_s(where, resident), age, where, resident, held_bytes)
        for where, age, resident, held_bytes in known
    )
    evict: list[tuple[str, str]] = []
    from_s = now
    for idle_s, _, _, where, resident, held_bytes in candidates:
        freed = held_by[where] & spare.keys()
        if all(spare[device] >= 0 for device in freed):
            continue
        for device in freed:
            spare[device] += held_bytes
        evict.append((where, resident))
        from_s = max(from_s, idle_s)
    return Room(tuple(evict), from_s) if min(spare.values()) >= 0 else None
