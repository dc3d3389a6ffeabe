"""Values that the executor's tests need: a view of two devices, and reservations on them."""

from __future__ import annotations

from typing import Any

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.executor.runs.connections import Connections, Known
from airflow_fate.messages import DeviceReport, StageSpec
from airflow_fate.state.ledger import DeviceShare, Reservation
from airflow_fate.state.source import FleetView

SECRET = "s" * 32
MODEL = ModelSpec("m", 1e9, 1e9, 2e9, {"cpu": 100.0}, {"cpu": 10.0})
FLEET = Fleet(
    {"n": Node("n")},
    {name: Device(name, "n", "cpu", 2e9, 8192, 1) for name in ("d0", "d1")},
    {"m": MODEL},
    {"g": DeviceGroup("g", ("d0", "d1"))},
)


def report(device: str, **fields: Any) -> DeviceReport:
    values = {
        "gpu": "cpu",
        "memory_bytes": 2e9,
        "kv_tokens": 8192,
        "max_seqs": 1,
        "engine": "x",
        "gateway_started": 0.0,
    }
    return DeviceReport.model_validate(values | {"device": device} | fields)


def view(*reports: DeviceReport, unusable: frozenset[str] = frozenset()) -> FleetView:
    names = [report.device for report in reports]
    return FleetView(
        FLEET,
        {report.device: report for report in reports},
        {name: f"http://127.0.0.1/{name}" for name in names},
        dict.fromkeys(names, 0.0),
        {name: name not in unusable for name in names},
        1,
    )


def reservation(*devices: str, place: str = "", **fields: Any) -> Reservation:
    shares = tuple(DeviceShare(d, place or d, "n", 1, 1, fence=7, live=(3, 7)) for d in devices)
    values: dict[str, Any] = {
        "id": "r1",
        "ti_id": "t1",
        "dag_id": "dag",
        "run_id": "run",
        "task_id": "task",
        "map_index": -1,
        "try_number": 1,
        "stage": "task",
        "model": "m",
        "policy": "fate",
        "claimed_at": 100.0,
        "prefill_end_at": 105.0,
        "finish_at": 110.0,
    }
    return Reservation(shares=shares, **(values | fields))


def connections(**known: Known) -> Connections:
    """Connections that are known already: ``fate_default``, and the given ones."""
    all_known = {"fate_default": Known("fate")} | known
    connections = Connections(lambda conn_id: all_known.get(conn_id, Known()))
    for conn_id in all_known:
        connections.judge_now(StageSpec(conn_id=conn_id))
    return connections
