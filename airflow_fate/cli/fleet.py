"""How is a local fleet started, looked at and stopped? ``fate fleet up | status | down``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_fate.cli.fleetdir import (
    FleetDirError,
    default_folder,
    make_folder,
    source_of,
    supervisor_lock,
    supervisor_pid,
    write_fleet,
)
from airflow_fate.cli.show import (
    FOUND_TROUBLE,
    WRONG_USE,
    Commands,
    Output,
    console,
    fail,
    print_json,
    print_result,
    waiting,
)

if TYPE_CHECKING:
    from rich.table import Table

    from airflow_fate.gateway.supervisor import Supervisor
    from airflow_fate.state.fleetschema import FleetFile
    from airflow_fate.state.local import LocalFleet
    from airflow_fate.state.source import FleetView

REFRESH_S = 0.5
READY_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 15.0

fleet_app = typer.Typer(cls=Commands, no_args_is_help=True, help="A fleet of engines on this machine.")

FolderOption = Annotated[Path | None, typer.Option("--dir", help="The fleet's folder.")]


class DidNotStart(Exception):
    """A fleet in the background did not come up; says why."""


@fleet_app.command()
def up(
    file: Annotated[Path, typer.Option("--file", "-f", help="The fleet file.")] = Path("fleet.yaml"),
    folder: FolderOption = None,
    detach: Annotated[bool, typer.Option("--detach/--no-detach", help="Return when all devices are ready.")] = False,
    output: Output = "table",
) -> None:
    """Start one gateway a device, and keep them running until stopped."""
    from airflow_fate.cli.engines import troubles
    from airflow_fate.cli.extras import MissingExtra, require_engines
    from airflow_fate.gateway.supervisor import CannotStart
    from airflow_fate.state.fleetfile import FleetFileError, read_running_fleet

    try:
        fleet_file = read_running_fleet(file)
        require_engines(fleet_file)
        folder = _resolved(folder)
        for trouble in troubles(fleet_file):
            typer.echo(f"fate fleet up: {trouble}", err=True)
        if detach:
            _detach(file, folder, len(fleet_file.devices))
            print_result(
                output, _up(folder, fleet_file), f"{len(fleet_file.devices)} devices ready; fleet folder {folder}"
            )
            return
        with supervisor_lock(folder):
            write_fleet(folder, fleet_file.model_dump_json(indent=2))
            asyncio.run(_supervise(folder, fleet_file, output))
    except FleetFileError as error:
        fail("fleet up", error, WRONG_USE)
    except (FleetDirError, MissingExtra, CannotStart, DidNotStart) as error:
        fail("fleet up", error)


@fleet_app.command()
def status(folder: FolderOption = None, output: Output = "table") -> None:
    """Show the devices of a fleet; 1 when nobody keeps it running."""
    folder = _existing("fleet status", folder)
    view = source_of(folder).snapshot()
    pid = supervisor_pid(folder)
    if output == "json":
        devices = {
            name: {
                "usable": view.usable.get(name, False),
                "url": view.urls.get(name),
                "seen_age_s": view.seen_age_s.get(name),
                "report": view.reports[name].model_dump(mode="json") if name in view.reports else None,
            }
            for name in view.fleet.devices
        }
        print_json({"folder": str(folder), "supervisor_pid": pid, "devices": devices})
    else:
        console().print(_table(view, {}))
        typer.echo(f"fleet folder {folder}; supervisor: {pid or 'not running'}")
    if pid is None:
        raise typer.Exit(FOUND_TROUBLE)


@fleet_app.command()
def down(folder: FolderOption = None, output: Output = "table") -> None:
    """Stop a fleet."""
    folder = _existing("fleet down", folder)
    pid = supervisor_pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        with waiting(f"Stopping the fleet in {folder}"):
            stopped = _wait_for(lambda: supervisor_pid(folder) is None, DOWN_TIMEOUT_S)
        if not stopped:
            fail("fleet down", f"the supervisor (process {pid}) did not stop within {DOWN_TIMEOUT_S:.0f} s")
    message = f"no fleet runs in {folder}" if pid is None else "stopped"
    print_result(output, {"folder": str(folder), "stopped_pid": pid}, message)


def _up(folder: Path, fleet_file: FleetFile) -> dict[str, Any]:
    return {"folder": str(folder), "devices": list(fleet_file.devices)}


async def _supervise(folder: Path, fleet_file: FleetFile, output: str) -> None:
    """:raises CannotStart: when a gateway can't begin; nothing runs then."""
    from airflow_fate.gateway.supervisor import Supervisor
    from airflow_fate.state.local import LocalFleet

    def say(line: str) -> None:
        print(line, flush=True, file=sys.stderr if output == "json" else sys.stdout)

    source = LocalFleet(folder, fleet_file.label_prefix)
    supervisor = Supervisor(folder, tuple(fleet_file.devices), on_event=say)
    work = asyncio.create_task(supervisor.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    show = asyncio.create_task(_show(supervisor, source, folder, fleet_file, output, say))
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        show.cancel()
        await asyncio.gather(show, return_exceptions=True)


async def _show(
    supervisor: Supervisor,
    source: LocalFleet,
    folder: Path,
    fleet_file: FleetFile,
    output: str,
    say: Callable[[str], None],
) -> None:
    """A live table for a person, lines for a log, one document for a program."""
    count = len(fleet_file.devices)
    say(f"fleet folder {folder}")
    with _display(output) as update:
        shown: dict[str, bool] = {}
        is_printed = False
        while True:
            view = source.snapshot()
            update(_table(view, supervisor.pids))
            if view.usable != shown:
                shown = dict(view.usable)
                ready = sorted(name for name, usable in shown.items() if usable)
                say(f"{len(ready)} of {count} devices ready: {', '.join(ready) or 'none'}")
                if output == "json" and len(ready) == count and not is_printed:
                    is_printed = True
                    print_json(_up(folder, fleet_file))
                    sys.stdout.flush()
            await asyncio.sleep(REFRESH_S)


@contextlib.contextmanager
def _display(output: str) -> Iterator[Callable[[Table], None]]:
    if output == "json" or not sys.stdout.isatty():
        yield lambda table: None
        return
    from rich.live import Live

    with Live(console=console(), refresh_per_second=4) as live:
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
    """Start a supervisor that goes on by itself, and wait for its devices.

    :raises DidNotStart: when they don't come, with the reason; nothing is left running then.
    """
    if supervisor_pid(folder) is not None:
        raise FleetDirError(f"a fleet runs in {folder} already; `fate fleet down` stops it")
    make_folder(folder)
    log_file = folder / "logs" / "supervisor.log"
    with open(log_file, "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow_fate.cli.fleet", "up", "--file", str(file), "--dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    source = source_of(folder)

    def is_settled() -> bool:
        return process.poll() is not None or sum(source.snapshot().usable.values()) == count

    try:
        with waiting(f"Starting {count} gateways, whose logs are in {log_file.parent}"):
            settled = _wait_for(is_settled, READY_TIMEOUT_S)
    except BaseException:
        _end(process)
        raise
    if process.poll() is not None:
        last = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise DidNotStart("".join(last).removeprefix("fate fleet up: ") or f"it ended with {process.returncode}")
    if not settled:
        _end(process)
        missing = sorted(name for name in source.snapshot().fleet.devices if not source.snapshot().usable.get(name))
        waited = f"not ready within {READY_TIMEOUT_S:.0f} s: {', '.join(missing)}"
        raise DidNotStart(f"{waited}; their logs are in {log_file.parent}, and all that was started has been ended")


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """With its gateways, which end when it does."""
    supervisor.terminate()
    try:
        supervisor.wait(DOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def _resolved(folder: Path | None) -> Path:
    return (folder or default_folder()).expanduser().resolve()


def _existing(command: str, folder: Path | None) -> Path:
    existing = _resolved(folder)
    if not (existing / "fleet.json").is_file():
        fail(command, f"{existing} holds no fleet; `fate fleet up` makes one, --dir names another folder", WRONG_USE)
    return existing


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    fleet_app()
