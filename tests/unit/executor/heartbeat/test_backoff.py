"""A device that could not serve gets nothing for a while, a longer one each time, until it is another."""

from __future__ import annotations

from airflow_fate.executor.heartbeat.backoff import FIRST_S, LONGEST_S, Trust
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
    trust = Trust().after([fact(fault="model_not_found"), fact("d1", requests=1)], view(), NOW_S)
    assert trust.of(view(), NOW_S + FIRST_S - 1).usable == {"d0": False, "d1": True}
    assert trust.of(view(), NOW_S + FIRST_S).usable == {"d0": True, "d1": True}


def test_the_time_doubles_with_each_fault_in_a_row_and_is_bounded() -> None:
    trust = Trust()
    for _ in range(2):
        trust = trust.after([fact(fault="fate_engine_died")], view(), NOW_S)
    assert not trust.of(view(), NOW_S + 2 * FIRST_S - 1).usable["d0"]
    for _ in range(30):
        trust = trust.after([fact(fault="fate_engine_died")], view(), NOW_S)
    assert trust.of(view(), NOW_S + LONGEST_S).usable["d0"]


def test_an_answer_clears_it() -> None:
    trust = Trust().after([fact(fault="fate_engine_died")], view(), NOW_S).after([fact(requests=1)], view(), NOW_S)
    assert trust.of(view(), NOW_S).usable["d0"]


def test_a_gateway_that_starts_anew_is_believed() -> None:
    trust = Trust().after([fact(fault="fate_engine_died")], view(started=1.0), NOW_S)
    assert trust.of(view(started=2.0), NOW_S).usable["d0"]


def test_a_try_that_failed_by_itself_says_nothing_of_its_device() -> None:
    assert Trust().after([fact()], view(), NOW_S) == Trust()
