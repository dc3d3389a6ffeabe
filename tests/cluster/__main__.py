"""``python -m tests.cluster``: a cluster to try things on, by ``make cluster-up`` and ``make cluster-down``."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from airflow_fate.cli.show import print_json
from airflow_fate.demo.view import comparison_table
from tests.cluster import binaries
from tests.cluster.bench import Fleet, compare
from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.processes import ProgramEnded
from tests.cluster.scale import measure


class Output(StrEnum):
    table = "table"
    json = "json"


app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Folder = Annotated[Path, typer.Option(help="where its keys, data and logs lie")]
DEFAULT = ROOT / ".cluster"
READY = "ready"
CHECK_S = 1.0


@app.command()
def build() -> None:
    """Build what is missing of the cluster's programs; says nothing when all are there."""
    try:
        binaries.ensure(_say)
    except binaries.BuildError as error:
        raise SystemExit(str(error)) from None


@app.command()
def up(folder: Folder = DEFAULT) -> None:
    """Start a cluster, and return when it is ready; it stays until `down`."""
    build()
    began = time.monotonic()
    # The child tells on its standard output, and closes it when there is no more to tell.
    command = [sys.executable, "-m", "tests.cluster", "run", "--folder", str(folder.resolve())]
    keeper = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    said = []
    try:
        assert keeper.stdout
        for line in keeper.stdout:
            said.append(line.strip())
            if said[-1] == READY:
                break
            _say(said[-1])
    except KeyboardInterrupt:
        keeper.terminate()
        keeper.wait()
        raise SystemExit("interrupted; what had started has ended") from None
    if READY not in said:
        raise SystemExit(f"no cluster (status {keeper.wait()})")
    _say(f"up in {time.monotonic() - began:.1f} s; next:")
    _say(f"  export KUBECONFIG={folder.resolve() / 'keys' / 'admin.kubeconfig'}")
    _say(f"  export PATH={binaries.located().folder}:$PATH")


@app.command()
def run(folder: Folder = DEFAULT) -> None:
    """Run a cluster in the foreground, until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, _interrupt)
    with _only_one(folder):
        try:
            with Cluster(folder, say=_say) as cluster:
                _say(READY)
                # Who listens to this reads no further.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                while True:
                    time.sleep(CHECK_S)
                    cluster.programs.check()
        except KeyboardInterrupt:
            pass
        except (ProgramEnded, RuntimeError, OSError) as error:
            raise SystemExit(str(error)) from None


@app.command()
def down(folder: Folder = DEFAULT) -> None:
    """End the cluster of this folder; says nothing when none runs."""
    lock = folder / "lock"
    if not lock.exists():
        raise typer.Exit
    with lock.open("r+") as held:
        if _took(held.fileno(), wait=False):
            raise typer.Exit
        os.kill(int(held.read()), signal.SIGTERM)
        _took(held.fileno(), wait=True)
    _say(f"down; logs stay in {folder / 'logs'}")


As = Annotated[Output, typer.Option(help="as what the results are printed")]


@app.command()
def bench_scale(output: As = Output.table) -> None:
    """The state source and gateways' reports with a thousand simulated pods: times, memory, requests."""
    build()
    with tempfile.TemporaryDirectory(prefix="fate-bench-") as folder:
        measured = asdict(asyncio.run(measure(Path(folder), partial(typer.echo, err=True))))
    if output is Output.json:
        print_json(measured)
        return
    table = Table("", "")
    for name, value in measured.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)


@app.command()
def bench_engines(
    fleet: Annotated[list[Fleet] | None, typer.Option(help="which engines; all if not said")] = None,
    output: As = Output.table,
) -> None:
    """The demo's workload on real engines in pods, under FATE and under round robin."""
    build()
    comparisons = {}
    for chosen in fleet or Fleet:
        with tempfile.TemporaryDirectory(prefix="fate-bench-") as folder:
            comparisons[chosen.value] = asyncio.run(compare(chosen, Path(folder), partial(typer.echo, err=True)))
    if output is Output.json:
        whole = {name: {policy: result.to_json() for policy, result in by.items()} for name, by in comparisons.items()}
        print_json(whole)
        return
    for name, by_policy in comparisons.items():
        Console().print(name, comparison_table(by_policy))


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """The lock of the folder, which has the process id of who runs its cluster.

    :raises SystemExit: one runs already, or the folder is somebody's own.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "lock").exists():
        raise SystemExit(f"{folder} is no folder of a cluster, and not empty")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        if not _took(lock.fileno(), wait=False):
            raise SystemExit(f"a cluster of {folder} runs already; `make cluster-down` ends it")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _took(lock: int, wait: bool) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


app()
