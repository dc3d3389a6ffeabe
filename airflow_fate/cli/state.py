"""``fate state``: what does the scheduler know of its fleet?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from airflow_fate.cli.airflow_settings import fate_settings, quiet
from airflow_fate.cli.show import WRONG_USE, Output, console, fail, print_json, waiting

_LIKE_OTHERS = 0.8

if TYPE_CHECKING:
    from airflow_fate.physics.law import Law
    from airflow_fate.state.ledger import Reservation
    from airflow_fate.state.source import FleetView


def state(
    output: Output = "table",
) -> None:
    """Show nodes, devices, models, prefixes and live reservations, as the scheduler would see them now."""
    from sqlalchemy.exc import DBAPIError

    from airflow_fate.executor.settings import SettingsError

    try:
        with waiting("Looking at the fleet as the scheduler does"), quiet():
            from airflow_fate.doctor.examine import fleet_of
            from airflow_fate.executor.database import connect
            from airflow_fate.executor.runs.kept_speeds import costs_of
            from airflow_fate.state.ledger import Ledger
            from airflow_fate.state.speeds import LearnedSpeeds

            with fleet_of(fate_settings()) as view:
                live = Ledger(connect).live()
                costs = costs_of(LearnedSpeeds(connect).read())
    except SettingsError as error:
        fail("state", error, WRONG_USE)
    except DBAPIError as error:
        fail("state", f"the ledger can't be read ({error.orig}); see `fate doctor`")
    devices = [_device(view, name) | {"slowness": costs.slowness.get(name, 1.0)} for name in sorted(view.fleet.devices)]
    speeds = [_speeds(gpu, model, law) for (gpu, model), law in sorted(costs.laws.items())]
    reservations = [_reservation(reservation) for reservation in live]
    if output == "json":
        print_json({"devices": devices, "reservations": reservations, "speeds": speeds})
    else:
        _show(devices, reservations)
        _show_speeds(devices, speeds)


def _device(view: FleetView, name: str) -> dict[str, Any]:
    device, report = view.fleet.devices[name], view.reports.get(name)
    node = view.fleet.nodes[device.node]
    return {
        "device": name,
        "node": device.node,
        "zone": node.zone,
        "gpu": device.gpu,
        "memory_gb": device.memory_bytes / 1e9,
        "may_get_tasks": view.usable.get(name, False),
        "seen_s_ago": round(view.seen_age_s[name], 1) if name in view.seen_age_s else None,
        "models": {model: model_report.state for model, model_report in sorted(report.models.items())}
        if report
        else {},
        "prefixes": len(report.prefixes) if report else 0,
        "prefix_tokens": sum(tokens for _, tokens, *_ in report.prefixes) if report else 0,
        "running": report.running if report else 0,
        "queued": report.queued if report else 0,
    }


def _reservation(reservation: Reservation) -> dict[str, Any]:
    return {
        "dag": reservation.dag_id,
        "run": reservation.run_id,
        "task": reservation.task_id,
        "map_index": reservation.map_index,
        "try": reservation.try_number,
        "model": reservation.model,
        "devices": [share.device for share in reservation.shares],
        "claimed_at": reservation.claimed_at,
        "expected_end_at": reservation.finish_at,
        "why": reservation.reason,
    }


def _speeds(gpu: str, model: str, law: Law) -> dict[str, Any]:
    return {
        "model": model,
        "gpu": gpu,
        **asdict(law.speeds),
        "described": asdict(law.described),
        "deviations": law.deviations,
        "noise": law.noise,
        "answers": law.answers,
    }


def _show_speeds(devices: list[dict[str, Any]], speeds: list[dict[str, Any]]) -> None:
    """What was learned: each with how sure it is, and devices that differ from their like."""
    shown = console()
    if speeds:
        columns = ("prompt tokens/s", "output tokens/s", "slower by each", "by 1,000 context", "answers")
        table = Table("model", "GPU", *columns, title="Speeds as learned")
        for row in speeds:
            names = ("prefill_tps", "decode_tps", "decode_slowdown", "context_slowdown")
            cells = [
                f"{row[name]:.3g} ± {min(off, 9.99):.0%}" for name, off in zip(names, row["deviations"], strict=True)
            ]
            table.add_row(row["model"], row["gpu"], *cells, str(row["answers"]))
        shown.print(table)
    for device in devices:
        if not _LIKE_OTHERS < device["slowness"] < 1 / _LIKE_OTHERS:
            shown.print(f"{device['device']} takes {device['slowness']:.2f} times as long as others with its GPU.")


def _show(devices: list[dict[str, Any]], reservations: list[dict[str, Any]]) -> None:
    shown = console()
    table = Table("node", "device", "GPU", "GB", "tasks", "seen", "models", "prefixes", "running", "queued")
    for device in devices:
        models = ", ".join(
            name if state == "ready" else f"{name} ({state})" for name, state in device["models"].items()
        )
        seen = "never" if device["seen_s_ago"] is None else f"{device['seen_s_ago']:.0f} s ago"
        prefixes = f"{device['prefixes']} of {device['prefix_tokens']} tokens" if device["prefixes"] else ""
        may = Text("yes", "green") if device["may_get_tasks"] else Text("no", "red")
        counts = (str(device["running"]), str(device["queued"]))
        table.add_row(
            device["node"],
            device["device"],
            device["gpu"],
            f"{device['memory_gb']:.3g}",
            may,
            seen,
            models,
            prefixes,
            *counts,
        )
    shown.print(table if devices else "No device is known; `fate doctor` says more.")
    if reservations:
        table = Table("DAG", "run", "task", "try", "model", "devices", "why")
        for reservation in reservations:
            task, index = reservation["task"], reservation["map_index"]
            table.add_row(
                reservation["dag"],
                reservation["run"],
                task if index < 0 else f"{task}[{index}]",
                str(reservation["try"]),
                reservation["model"],
                ", ".join(reservation["devices"]),
                reservation["why"],
            )
        shown.print(table)
