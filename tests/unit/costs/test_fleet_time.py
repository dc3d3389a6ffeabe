"""Busy and idle time are the fleet's time, and idle time is never negative."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_fate.costs import FleetTime, Interval, fleet_time
from tests.unit.costs.builders import hold

spans = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: Interval(*sorted(pair)))
on_devices = st.lists(st.tuples(st.sampled_from(["d0", "d1"]), spans), max_size=8)


def seconds(spans: list[tuple[str, Interval]]) -> set[tuple[str, int]]:
    return {(device, second) for device, (start, end) in spans for second in range(int(start), int(end))}


@given(held=on_devices, seen=on_devices)
def test_each_second_of_a_device_counts_once(
    held: list[tuple[str, Interval]], seen: list[tuple[str, Interval]]
) -> None:
    holds = [hold("r", *span, device=device) for device, span in held]
    found = fleet_time(holds, seen, 0, 30)
    assert (found.busy_s, found.fleet_s) == (len(seconds(held)), len(seconds(held) | seconds(seen)))
    assert found.idle_s >= 0


def test_a_device_that_was_there_and_unused_is_idle() -> None:
    found = fleet_time([hold("r", 10, 20)], [("d0", Interval(0, 100)), ("d1", Interval(50, 60))], 0, 100)
    assert (found, found.idle_s) == (FleetTime(fleet_s=110, busy_s=10), 100)


def test_what_lies_outside_of_the_range_does_not_count() -> None:
    assert fleet_time([hold("r", 0, 20)], [("d0", Interval(0, 100))], 15, 30) == FleetTime(15, 5)
