"""Was a promise broken? Reads a history; knows nothing of how the world works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.faults.simulation.history import Asked, Booked, Event, Finished, Forgot, Given, Queued, Served, Told


def violations(events: Iterable[Event]) -> list[str]:
    """Promises that the history breaks, in words; each begins with the promise's name."""
    events = list(events)
    return [
        *_overbooked(events),
        *_held_twice(events),
        *_run_twice(events),
        *_strangers(events),
        *_left_over(events),
    ]


def _overbooked(events: list[Event]) -> Iterator[str]:
    before: dict[str, int] = {}
    for event in events:
        if isinstance(event, Booked):
            for device, (used, capacity) in event.used.items():
                held = sum(shares.get(device, 0) for _, shares in event.live.values())
                if used != held:
                    yield f"capacity: {device} counts {used} sequences, and its live reservations hold {held}"
                if max(used, held) > max(capacity, before.get(device, 0)):
                    yield f"capacity: {device} holds {max(used, held)} sequences of {capacity}"
                before[device] = max(used, held)


def _held_twice(events: list[Event]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Booked):
            for ti_id, count in Counter(ti_id for ti_id, _ in event.live.values()).items():
                if count > 1:
                    yield f"twice: try {ti_id} holds {count} live reservations"


def _run_twice(events: list[Event]) -> Iterator[str]:
    given: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Queued):
            given[event.ti_id] = 0
        elif isinstance(event, Given):
            given[event.ti_id] += 1
            if given[event.ti_id] > 1:
                yield f"twice: try {event.ti_id} was given to an inner executor {given[event.ti_id]} times"


def _strangers(events: list[Event]) -> Iterator[str]:
    """What a gateway must know: of which reservations it was told, and what newer claims say of older ones."""
    claimed: set[str] = set()
    live: set[str] = set()
    past: dict[str, set[str]] = {}
    """Reservation -> those that had ended when it was claimed."""
    known: dict[str, set[str]] = {}
    """Device -> reservations of which it must know that they have ended."""
    for event in events:
        if isinstance(event, Booked):
            for name in event.live.keys() - claimed:
                past[name] = claimed - event.live.keys()
            claimed |= event.live.keys()
            live = set(event.live)
        elif isinstance(event, Forgot):
            known.pop(event.device, None)
        elif isinstance(event, Told):
            known.setdefault(event.device, set()).add(event.reservation)
        elif isinstance(event, Asked):
            known.setdefault(event.device, set()).update(past.get(event.reservation, ()))
        elif isinstance(event, Served):
            if not event.is_valid:
                yield f"stranger: {event.device} serves a token that is not for it, or has expired"
            elif event.reservation not in claimed:
                yield f"stranger: {event.device} serves {event.reservation}, which the ledger never granted"
            elif event.reservation not in live and event.reservation in known.get(event.device, ()):
                yield f"stranger: {event.device} serves {event.reservation}, of which it knows that it has ended"


def _left_over(events: list[Event]) -> Iterator[str]:
    last = next((event for event in reversed(events) if isinstance(event, Booked)), None)
    end = next((event for event in reversed(events) if isinstance(event, Finished)), None)
    if end is None:
        return
    for name, state in end.unfinished.items():
        yield f"lost: {name} is {state} long after the last fault"
    for name, (ti_id, _) in last.live.items() if last else ():
        yield f"leaked: {name} of try {ti_id} is live long after the last fault"
