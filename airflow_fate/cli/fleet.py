"""How is a local fleet started, looked at and stopped? ``fate fleet up | status | down``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from airflow_fate.cli.fleetdir import (
    FleetDirError,
    default_folder,
    only_folder,
    supervisor_lock,
    supervisor_pid,
    write_fleet,
)

if TYPE_CHECKING:
    from rich.table import Table

    from airflow_fate.gateway.supervisor import Supervisor
    from airflow_fate.state.local import LocalFleet
    from airflow_fate.state.source import FleetView

REFRESH_S = 0.5
READY_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 15.0

fleet_app = typer.Typer(no_args_is_help=True, help="A fleet of engines on this machine.")

FolderOption = Annotated[Path | None, typer.Option("--dir", help="The fleet's folder.")]


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


@fleet_app.command()
def up(
    file: Annotated[Path, typer.Option("--file", "-f", help="The fleet file.")] = Path("fleet.yaml"),
    folder: FolderOption = None,
    detach: Annotated[bool, typer.Option("--detach/--no-detach", help="Return when all devices are ready.")] = False,
) -> None:
    """Start one gateway a device, and keep them running until stopped."""
    from airflow_fate.state.fleetfile import FleetFileError, read_fleet_file

    try:
        fleet_file = read_fleet_file(file)
        folder = (folder or default_folder(fleet_file.name)).expanduser().resolve()
        if detach:
            _detach(file, folder, len(fleet_file.devices))
            return
        with supervisor_lock(folder):
            write_fleet(folder, fleet_file.model_dump_json(indent=2))
            asyncio.run(_supervise(folder, tuple(fleet_file.devices), fleet_file.label_prefix))
    except (FleetFileError, FleetDirError) as error:
        _fail(str(error))


@fleet_app.command()
def status(folder: FolderOption = None, output: Output = Output.TABLE) -> None:
    """Show the devices of a fleet."""
    from rich.console import Console

    folder = _existing(folder)
    view = _source(folder).snapshot()
    pid = supervisor_pid(folder)
    if output is Output.JSON:
        devices = {
            name: {
                "usable": view.usable.get(name, False),
                "url": view.urls.get(name),
                "seen_age_s": view.seen_age_s.get(name),
                "report": view.reports[name].model_dump(mode="json") if name in view.reports else None,
            }
            for name in view.fleet.devices
        }
        typer.echo(json.dumps({"folder": str(folder), "supervisor_pid": pid, "devices": devices}, indent=2))
    else:
        Console().print(_table(view, {}))
        typer.echo(f"supervisor: {pid or 'not running'}")
    if pid is None:
        raise typer.Exit(1)


@fleet_app.command()
def down(folder: FolderOption = None) -> None:
    """Stop a fleet."""
    folder = _existing(folder)
    pid = supervisor_pid(folder)
    if pid is None:
        typer.echo(f"no fleet runs in {folder}")
        return
    os.kill(pid, signal.SIGTERM)
    if not _wait_for(lambda: supervisor_pid(folder) is None, DOWN_TIMEOUT_S):
        _fail(f"the supervisor (process {pid}) did not stop within {DOWN_TIMEOUT_S:.0f} s")
    typer.echo("stopped")


async def _supervise(folder: Path, devices: tuple[str, ...], label_prefix: str) -> None:
    from airflow_fate.gateway.supervisor import Supervisor
    from airflow_fate.state.local import LocalFleet

    source = LocalFleet(folder, label_prefix)
    supervisor = Supervisor(folder, devices, on_event=lambda line: print(line, flush=True))
    work = asyncio.create_task(supervisor.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    show = asyncio.create_task(_show(supervisor, source, folder, len(devices)))
    with contextlib.suppress(asyncio.CancelledError):
        await work
    show.cancel()
    await asyncio.gather(show, return_exceptions=True)


async def _show(supervisor: Supervisor, source: LocalFleet, folder: Path, count: int) -> None:
    """A live table for a person, lines for a log."""
    print(f"fleet folder {folder}", flush=True)
    with _display() as update:
        shown: dict[str, bool] = {}
        while True:
            view = source.snapshot()
            update(_table(view, supervisor.pids))
            if view.usable != shown:
                shown = dict(view.usable)
                ready = sorted(name for name, usable in shown.items() if usable)
                print(f"{len(ready)} of {count} devices ready: {', '.join(ready) or 'none'}", flush=True)
            await asyncio.sleep(REFRESH_S)


@contextlib.contextmanager
def _display() -> Iterator[Callable[[Table], None]]:
    if not sys.stdout.isatty():
        yield lambda table: None
        return
    from rich.live import Live

    with Live(refresh_per_second=4) as live:
        yield live.update


def _table(view: FleetView, pids: dict[str, int]) -> Table:
    from rich.table import Table

    table = Table("device", "node", "port", "process", "models", "requests", "cached tokens")
    for name, device in view.fleet.devices.items():
        report = view.reports.get(name)
        if report is None:
            table.add_row(name, device.node, "not seen")
            continue
        port = view.urls[name].rpartition(":")[2]
        models = (
            model if entry.state == "ready" else f"{model} ({entry.state})" for model, entry in report.models.items()
        )
        share = report.served_cached_tokens / report.served_prompt_tokens if report.served_prompt_tokens else 0.0
        table.add_row(
            name,
            device.node,
            port if view.usable[name] else f"{port}, unusable",
            str(pids.get(name, "")),
            ", ".join(models) or "none",
            str(report.served_requests),
            f"{report.served_cached_tokens} of {report.served_prompt_tokens} ({share:.0%})",
        )
    return table


def _detach(file: Path, folder: Path, count: int) -> None:
    if supervisor_pid(folder) is not None:
        raise FleetDirError(f"a fleet runs in {folder} already; `fate fleet down` stops it")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    with open(folder / "logs" / "supervisor.log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow_fate.cli.fleet", "up", "--file", str(file), "--dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    source = _source(folder)

    def is_settled() -> bool:
        return process.poll() is not None or sum(source.snapshot().usable.values()) == count

    if not _wait_for(is_settled, READY_TIMEOUT_S) or process.poll() is not None:
        _fail(f"the fleet did not start; see {folder / 'logs'}")
    typer.echo(f"{count} devices ready; fleet folder {folder}")


def _existing(folder: Path | None) -> Path:
    try:
        found = (folder or only_folder()).expanduser().resolve()
    except FleetDirError as error:
        _fail(str(error))
    if not (found / "fleet.json").is_file():
        _fail(f"{found} holds no fleet; `fate fleet up` makes one")
    return found


def _source(folder: Path) -> LocalFleet:
    from airflow_fate.messages import DEFAULT_LABEL_PREFIX
    from airflow_fate.state.local import LocalFleet

    try:
        prefix = json.loads((folder / "fleet.json").read_bytes())["label_prefix"]
    except (OSError, ValueError, KeyError):
        prefix = DEFAULT_LABEL_PREFIX
    return LocalFleet(folder, prefix)


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    fleet_app()
