"""Whose is a device's time? At each instant it is shared among the tries that hold the device. Pure.

They share it in proportion to the sequences that they hold. While a model loads, the time is its causer's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple


class Interval(NamedTuple):
    """From one time to another, Unix seconds; empty where the end is not after the start."""

    start_at: float
    end_at: float

    def within(self, since: float, until: float) -> Interval:
        """The part that lies between two times."""
        return Interval(max(self.start_at, since), min(self.end_at, until))

    @property
    def is_empty(self) -> bool:
        return self.end_at <= self.start_at


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a hold is: one placement of a try."""

    reservation: str
    dag_id: str
    run_id: str
    task_id: str
    tenant: str
    model: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A try has a device. Of a group, it has a hold on each member.

    :param gpu: the device's product, as the fleet's labels name it.
    :param sequences: that it holds of the device, 1 or more.
    :param span: from claim to release; to infinity where it goes on.
    :param load: when the device loaded a model for it; None where it did not, or nobody knows.
    """

    owner: Owner
    device: str
    gpu: str
    sequences: int
    span: Interval
    load: Interval | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What a hold costs.

    :param gpu_s: its part of the device's time, loads included.
    :param load_s: its part of the time in which the device loaded for it.
    """

    hold: Hold
    gpu_s: float
    load_s: float


def shares(holds: Sequence[Hold], since: float, until: float) -> list[Share]:
    """What each hold costs between two times, in the order of the holds.

    The shares of a device add up to the time in which anybody holds it. The shares of adjacent ranges add up to those
    of the whole range.

    :param holds: all that anybody has of these devices in that time.
    :param since: Unix seconds, as ``until``.
    """
    by_device: dict[str, list[int]] = {}
    for position, hold in enumerate(holds):
        by_device.setdefault(hold.device, []).append(position)
    meters = {device: _metered(holds, positions, since, until) for device, positions in by_device.items()}
    return [
        Share(hold, meters[hold.device].gpu_s.get(position, 0.0), meters[hold.device].load_s.get(position, 0.0))
        for position, hold in enumerate(holds)
    ]


class _Kind(IntEnum):
    """What happens to a hold. Of the same instant, any order will do: no time passes between."""

    BEGIN = 0
    END = 1
    BEGIN_LOAD = 2
    END_LOAD = 3


def _metered(holds: Sequence[Hold], positions: Sequence[int], since: float, until: float) -> _Meter:
    """One device's time between two times, gone through from event to event."""
    events: list[tuple[float, _Kind, int]] = []
    for position in positions:
        span = holds[position].span.within(since, until)
        if span.is_empty:
            continue
        events += [(span.start_at, _Kind.BEGIN, position), (span.end_at, _Kind.END, position)]
        load = holds[position].load
        if load is not None and not (part := load.within(*span)).is_empty:
            events += [(part.start_at, _Kind.BEGIN_LOAD, position), (part.end_at, _Kind.END_LOAD, position)]
    meter = _Meter(holds)
    for at, kind, position in sorted(events):
        meter.go_to(at)
        match kind:
            case _Kind.BEGIN:
                meter.begin(position)
            case _Kind.END:
                meter.end(position)
            case _Kind.BEGIN_LOAD:
                meter.loading.add(position)
            case _Kind.END_LOAD:
                meter.loading.remove(position)
    return meter


@dataclass(slots=True)
class _Meter:
    """A device's time as it goes by.

    ``per_sequence_s`` grows by each second over the number of sequences that are held then (the virtual time of fair
    queueing). A hold's share is what it has grown by between the hold's start and its end, however many come and go.
    """

    holds: Sequence[Hold]
    at: float = 0.0
    sequences: int = 0
    per_sequence_s: float = 0.0
    loading: set[int] = field(default_factory=set)
    began_s: dict[int, float] = field(default_factory=dict)
    gpu_s: dict[int, float] = field(default_factory=dict)
    load_s: dict[int, float] = field(default_factory=dict)

    def go_to(self, at: float) -> None:
        passed_s, self.at = at - self.at, at
        if self.loading:
            loaders = sum(self.holds[position].sequences for position in self.loading)
            for position in self.loading:
                part_s = passed_s * self.holds[position].sequences / loaders
                self.gpu_s[position] = self.gpu_s.get(position, 0.0) + part_s
                self.load_s[position] = self.load_s.get(position, 0.0) + part_s
        elif self.sequences:
            self.per_sequence_s += passed_s / self.sequences

    def begin(self, position: int) -> None:
        self.sequences += self.holds[position].sequences
        self.began_s[position] = self.per_sequence_s

    def end(self, position: int) -> None:
        sequences = self.holds[position].sequences
        self.sequences -= sequences
        shared_s = sequences * (self.per_sequence_s - self.began_s[position])
        self.gpu_s[position] = self.gpu_s.get(position, 0.0) + shared_s
