"""A device that could not serve gets nothing for a while, a longer one each time, until it is another."""

from __future__ import annotations

from airflow_fate.executor.heartbeat.backoff import FIRST_S, LONGEST_S, OutlierBackoff
from airflow_fate.messages import DeviceReport, Facts
from airflow_fate.state.source import FleetView
from tests.unit.executor.builders import FLEET

NOW_S = 1000.0


def view(started: float = 1.0) -> FleetView:
    reports = {
        device: DeviceReport(
            device=device, gpu="g", memory_bytes=1e9, kv_tokens=9, max_seqs=1, engine="e", gateway_started=started
        )
        for device in ("d0", "d1")
    }
    return FleetView(FLEET, reports, usable={"d0": True, "d1": True})


def fact(device: str = "d0", fault: str = "", requests: int = 0) -> Facts:
    return Facts(reservation="r", device=device, model="m", fault=fault, requests=requests)


def test_a_fault_takes_a_device_out_for_a_while() -> None:
    backoff = OutlierBackoff().after([fact(fault="model_not_found"), fact("d1", requests=1)], view(), NOW_S)
    assert backoff.applied_to(view(), NOW_S + FIRST_S - 1).usable == {"d0": False, "d1": True}
    assert backoff.applied_to(view(), NOW_S + FIRST_S).usable == {"d0": True, "d1": True}


def test_the_time_doubles_with_each_fault_in_a_row_and_is_bounded() -> None:
    backoff = OutlierBackoff()
    for _ in range(2):
        backoff = backoff.after([fact(fault="fate_engine_died")], view(), NOW_S)
    assert not backoff.applied_to(view(), NOW_S + 2 * FIRST_S - 1).usable["d0"]
    for _ in range(30):
        backoff = backoff.after([fact(fault="fate_engine_died")], view(), NOW_S)
    assert backoff.applied_to(view(), NOW_S + LONGEST_S).usable["d0"]


def test_an_answer_clears_it() -> None:
    backoff = (
        OutlierBackoff().after([fact(fault="fate_engine_died")], view(), NOW_S).after([fact(requests=1)], view(), NOW_S)
    )
    assert backoff.applied_to(view(), NOW_S).usable["d0"]


def test_a_gateway_that_starts_anew_is_believed() -> None:
    backoff = OutlierBackoff().after([fact(fault="fate_engine_died")], view(started=1.0), NOW_S)
    assert backoff.applied_to(view(started=2.0), NOW_S).usable["d0"]


def test_a_try_that_failed_by_itself_says_nothing_of_its_device() -> None:
    assert OutlierBackoff().after([fact()], view(), NOW_S) == OutlierBackoff()
