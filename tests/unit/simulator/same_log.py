"""Do two event logs tell the same? The same events at the same times; those at one time may be in any order."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

Event = dict[str, Any]
_NAMES = ("event", "workflow", "stage", "shard", "device", "model", "parent", "source", "why")


def differences(log: list[Event], other: list[Event]) -> list[str]:
    """What one log has otherwise than the other, the earliest first."""
    ours, theirs = _by_name(log), _by_name(other)
    timed: list[tuple[float, str]] = []
    for name in ours.keys() | theirs.keys():
        mine, yours = ours[name], theirs[name]
        if len(mine) != len(yours):
            timed.append((min(event["t"] for event in mine + yours), f"{len(mine)} times, {len(yours)} times: {name}"))
        for left, right in zip(mine, yours, strict=False):
            if not _same(left, right):
                timed.append((min(left["t"], right["t"]), f"{left} is {right}"))
    return [difference for _, difference in sorted(timed)]


def _by_name(events: list[Event]) -> dict[tuple[Any, ...], list[Event]]:
    """The events of each thing that can happen, in the order in which they did."""
    by_name: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    for event in events:
        by_name[tuple(event.get(name) for name in _NAMES)].append(event)
    return by_name


def _same(event: Event, other: Event) -> bool:
    if event.keys() != other.keys():
        return False
    return all(
        abs(value - other[name]) <= 1e-6 * max(1.0, abs(value))
        if isinstance(value, float | int)
        else value == other[name]
        for name, value in event.items()
    )
