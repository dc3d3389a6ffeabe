"""A placement and what was measured of it; a fleet of equal devices."""

from __future__ import annotations

from typing import Any

from airflow_fate.cluster import Device, Fleet, ModelSpec, Node
from airflow_fate.messages import DeviceReport, Facts
from airflow_fate.state.ledger import DeviceShare, Reservation
from airflow_fate.state.source import FleetView

MODEL = ModelSpec("m", 1e9, 1e9, 2e9, {"cpu": 100.0}, {"cpu": 10.0})
COST = {"wait": 1.0, "load": 2.0, "transfer": 0.5, "prefill": 3.0, "decode": 4.0, "sync": 0.0}


def reservation(**fields: Any) -> Reservation:
    values: dict[str, Any] = {
        "id": "r1",
        "ti_id": "t1",
        "dag_id": "d",
        "run_id": "r",
        "task_id": "ask",
        "map_index": -1,
        "try_number": 1,
        "stage": "ask",
        "model": "m",
        "policy": "search",
        "claimed_at": 100.0,
        "prefill_end_at": 106.5,
        "finish_at": 110.5,
        "shares": (DeviceShare("gpu-0", "gpu-0", "here", 1, 1),),
        "reason": "gpu-0: model is resident; next best gpu-1 would end 2.0 s later",
        "cost": COST,
        "future_s": -0.25,
    }
    return Reservation(**(values | fields))


def ended(**fields: Any) -> Reservation:
    """The same after 20 s, of which its engine was busy for 8."""
    return reservation(**({"ended_at": 120.0, "outcome": "success", "facts": [facts()]} | fields))


def facts(**fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "reservation": "r1",
        "device": "gpu-0",
        "model": "m",
        "requests": 1,
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 10,
        "wait_s": 0.5,
        "load_s": 1.5,
        "prefill_s": 2.0,
        "decode_s": 4.0,
    }
    return Facts(**(values | fields)).model_dump(mode="json")


def report(device: str, **fields: object) -> DeviceReport:
    values = {"gpu": "cpu", "memory_bytes": 2e9, "kv_tokens": 8, "max_seqs": 1, "engine": "x", "gateway_started": 0.0}
    return DeviceReport.model_validate(values | {"device": device} | fields)


def fleet_of(devices: int, per_node: int = 2, **fields: object) -> FleetView:
    """Devices that all say the same."""
    names = [f"gpu-{number:04}" for number in range(devices)]
    nodes = {f"node-{number:03}": Node(f"node-{number:03}") for number in range(-(-devices // per_node))}
    fleet = Fleet(
        nodes,
        {name: Device(name, f"node-{at // per_node:03}", "cpu", 2e9, 8, 1) for at, name in enumerate(names)},
        {"m": MODEL},
    )
    return FleetView(
        fleet,
        {name: report(name, **fields) for name in names},
        seen_age_s=dict.fromkeys(names, 1.0),
        usable=dict.fromkeys(names, True),
    )
