"""How much time had the fleet, and how much of it was nobody's? Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_fate.costs.sharing import Hold, Interval


@dataclass(frozen=True, slots=True)
class FleetTime:
    """Device-seconds.

    :param fleet_s: in which a device was there.
    :param busy_s: of these, in which somebody held it.
    """

    fleet_s: float = 0.0
    busy_s: float = 0.0

    @property
    def idle_s(self) -> float:
        return self.fleet_s - self.busy_s

    def __add__(self, other: FleetTime) -> FleetTime:
        return FleetTime(self.fleet_s + other.fleet_s, self.busy_s + other.busy_s)


def fleet_time(
    holds: Iterable[Hold], presences: Iterable[tuple[str, Interval]], since: float, until: float
) -> FleetTime:
    """The fleet's time between two times.

    A device that is held is there, also where nobody has seen it: while no scheduler ran, say.

    :param presences: (device, when it was seen); they may overlap.
    :param since: Unix seconds, as ``until``.
    """
    held: dict[str, list[Interval]] = {}
    there: dict[str, list[Interval]] = {}
    for hold in holds:
        held.setdefault(hold.device, []).append(hold.span.within(since, until))
    for device, seen in presences:
        there.setdefault(device, []).append(seen.within(since, until))
    return FleetTime(
        fleet_s=sum(_union_s([*there.get(device, ()), *held.get(device, ())]) for device in there.keys() | held.keys()),
        busy_s=sum(_union_s(spans) for spans in held.values()),
    )


def _union_s(spans: Iterable[Interval]) -> float:
    """The time that at least one of them covers."""
    covered_s, covered_until = 0.0, float("-inf")
    for start_at, end_at in sorted(span for span in spans if not span.is_empty):
        covered_s += max(0.0, end_at - max(start_at, covered_until))
        covered_until = max(covered_until, end_at)
    return covered_s
