"""``fate state``: what does the scheduler know of its fleet?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from airflow_fate.cli.configured import configured, quiet
from airflow_fate.cli.show import WRONG_USE, Output, console, fail, print_json, waiting

if TYPE_CHECKING:
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
            from airflow_fate.state.ledger import Ledger

            with fleet_of(configured()) as view:
                live = Ledger(connect).live()
    except SettingsError as error:
        fail("state", error, WRONG_USE)
    except DBAPIError as error:
        fail("state", f"the ledger can't be read ({error.orig}); see `fate doctor`")
    devices = [_device(view, name) for name in sorted(view.fleet.devices)]
    reservations = [_reservation(one) for one in live]
    if output == "json":
        print_json({"devices": devices, "reservations": reservations})
    else:
        _show(devices, reservations)


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
        "models": {model: told.state for model, told in sorted(report.models.items())} if report else {},
        "prefixes": len(report.prefixes) if report else 0,
        "prefix_tokens": sum(tokens for _, tokens, *_ in report.prefixes) if report else 0,
        "running": report.running if report else 0,
        "queued": report.queued if report else 0,
    }


def _reservation(one: Reservation) -> dict[str, Any]:
    return {
        "dag": one.dag_id,
        "run": one.run_id,
        "task": one.task_id,
        "map_index": one.map_index,
        "try": one.try_number,
        "model": one.model,
        "devices": [share.device for share in one.shares],
        "claimed_at": one.claimed_at,
        "expected_end_at": one.finish_at,
        "why": one.reason,
    }


def _show(devices: list[dict[str, Any]], reservations: list[dict[str, Any]]) -> None:
    shown = console()
    table = Table("node", "device", "GPU", "GB", "tasks", "seen", "models", "prefixes", "running", "queued")
    for one in devices:
        models = ", ".join(name if told == "ready" else f"{name} ({told})" for name, told in one["models"].items())
        seen = "never" if one["seen_s_ago"] is None else f"{one['seen_s_ago']:.0f} s ago"
        prefixes = f"{one['prefixes']} of {one['prefix_tokens']} tokens" if one["prefixes"] else ""
        may = Text("yes", "green") if one["may_get_tasks"] else Text("no", "red")
        counts = (str(one["running"]), str(one["queued"]))
        table.add_row(
            one["node"], one["device"], one["gpu"], f"{one['memory_gb']:.3g}", may, seen, models, prefixes, *counts
        )
    shown.print(table if devices else "No device is known; `fate doctor` says more.")
    if reservations:
        table = Table("DAG", "run", "task", "try", "model", "devices", "why")
        for one in reservations:
            task = one["task"] if one["map_index"] < 0 else f"{one['task']}[{one['map_index']}]"
            where = ", ".join(one["devices"])
            table.add_row(one["dag"], one["run"], task, str(one["try"]), one["model"], where, one["why"])
        shown.print(table)
