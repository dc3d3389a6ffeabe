"""The fleet on a page: sums over all devices, a part of them, and why one gets no work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.plugin.fleet import DeviceState, FleetPage, fleet_page
from airflow_fate.state.source import FleetView
from tests.unit.plugin.builders import fleet_of, report


def page(seen: FleetView, **asked: object) -> FleetPage:
    return fleet_page(seen, 10.0, **({"offset": 0, "limit": 50} | asked))  # type: ignore[arg-type]


def test_sums_are_over_the_whole_fleet_and_the_page_is_a_part_of_it() -> None:
    shown = page(fleet_of(120, running=2, queued=1), offset=100, limit=50)
    assert (shown.nodes, shown.states, shown.running, shown.queued) == (60, {"ready": 120}, 240, 120)
    assert shown.matching == 120
    assert [row.device for row in shown.devices] == [f"gpu-{number:04}" for number in range(100, 120)]


def test_models_are_resident_loading_or_asleep_in_host_memory() -> None:
    models = {"m": {"state": "ready", "since": 1.0}, "other": {"state": "loading", "since": 1.0}}
    shown = page(fleet_of(2, models=models, host_models=("m", "third")))
    assert {(model.model, model.resident, model.loading, model.asleep) for model in shown.models} == {
        ("m", 2, 0, 0),
        ("other", 0, 2, 0),
        ("third", 0, 0, 2),
    }
    assert shown.devices[0].asleep == ("third",), "what is resident doesn't sleep"


def test_a_model_that_is_nowhere_is_shown_too() -> None:
    (model,) = page(fleet_of(1)).models
    assert (model.model, model.resident) == ("m", 0)


@pytest.mark.parametrize(
    ("changed", "state", "why"),
    [
        ({"reports": {}}, DeviceState.UNSEEN, "published nothing"),
        ({"reports": {"gpu-0000": report("gpu-0000", draining=True)}}, DeviceState.DRAINING, "takes nothing new"),
        ({"seen_age_s": {"gpu-0000": 11.0}}, DeviceState.STALE, "silent for more than 10 s"),
        ({"usable": {"gpu-0000": False}}, DeviceState.NOT_READY, "pod is not ready"),
        ({"grouped": frozenset({"gpu-0000"})}, DeviceState.MEMBER, "member of its group"),
    ],
    ids=lambda value: str(value) if isinstance(value, DeviceState) else "",
)
def test_a_device_without_work_of_its_own_says_why(changed: dict[str, object], state: DeviceState, why: str) -> None:
    (row,) = page(replace(fleet_of(1), **changed)).devices  # type: ignore[arg-type]
    assert row.state == state
    assert why in row.why


def test_a_device_is_found_by_its_node_and_by_a_model_on_it() -> None:
    seen = fleet_of(4, models={"Llama": {"state": "ready", "since": 1.0}})
    assert [row.device for row in page(seen, text="NODE-001").devices] == ["gpu-0002", "gpu-0003"]
    assert page(seen, text="llama").matching == 4
    assert page(seen, text="nowhere").matching == 0


def test_devices_in_one_state_are_found() -> None:
    seen = fleet_of(3)
    seen = replace(seen, usable={**seen.usable, "gpu-0001": False})
    assert [row.device for row in page(seen, state=DeviceState.NOT_READY).devices] == ["gpu-0001"]
