"""What did one policy achieve? A pass: a fresh fleet, a scheduler with that policy, all runs at once, and the facts of
each task.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from airflow_fate.demo.api import StackError
from airflow_fate.demo.stack import AirflowStack
from airflow_fate.demo.workload import FLEET_FILE, Trigger

FLEET_START_S = 60.0
PASS_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class TaskResult:
    """What happened to one task. Seconds from the first trigger; tokens as the engine counted them."""

    task: str
    device: str
    model: str
    start_s: float
    end_s: float
    wait_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    prompt_tokens: int
    cached_tokens: int
    why: str


@dataclass(frozen=True)
class PassResult:
    """What one policy achieved."""

    wall_s: float
    p95_s: float
    mean_s: float
    prompt_tokens: int
    cached_tokens: int
    loads: int
    tasks: tuple[TaskResult, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class LocalFleetProcess:
    """``fate fleet up`` as a process of its own."""

    def __init__(self, folder: Path, file: Path = FLEET_FILE) -> None:
        self.folder = folder
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, devices: int) -> None:
        """Start and wait until all devices publish their state.

        :raises StackError: when they don't.
        """
        shutil.rmtree(self.folder / "pods", ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "fleet.log").open("ab") as output:
            command = [sys.executable, "-m", "airflow_fate.cli.main", "fleet", "up", "--file", str(self._file)]
            self._process = subprocess.Popen(
                [*command, "--dir", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + FLEET_START_S
        while len(list(self.folder.glob("pods/*.json"))) < devices:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"the fleet did not start, see {self.folder / 'fleet.log'}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def run_pass(stack: AirflowStack, runs: list[Trigger], watch: Callable[[], None]) -> PassResult:
    """Trigger all runs at once and wait for their end.

    :param watch: called again and again while they run.
    :raises StackError: when a run fails or does not end.
    """
    began = time.time()
    for run in runs:
        stack.api.trigger(run.dag_id, {"document": run.document}, run.run_id)
    states: dict[str, str] = {}
    while len(states) < len(runs):
        states = {
            run.dag_id + run.run_id: state
            for run in runs
            if (state := stack.api.run_state(run.dag_id, run.run_id)) in ("success", "failed")
        }
        watch()
        if time.time() - began > PASS_TIMEOUT_S:
            raise StackError(f"{len(runs) - len(states)} runs did not end in {PASS_TIMEOUT_S:.0f} s, see {stack.home}")
        time.sleep(0.5)
    if failed := [name for name, state in states.items() if state == "failed"]:
        raise StackError(f"runs failed: {', '.join(failed)}; see the logs under {stack.home / 'logs'}")
    return _result(stack, runs, began)


def _result(stack: AirflowStack, runs: list[Trigger], began: float) -> PassResult:
    durations, ends = [], []
    for run in runs:
        end = datetime.fromisoformat(
            stack.api.call("GET", f"/dags/{run.dag_id}/dagRuns/{run.run_id}").json()["end_date"]
        )
        ends.append(end.timestamp() - began)
        durations.append(end.timestamp() - began)
    tasks = tuple(placements(stack.database, [run.run_id for run in runs], began))
    durations.sort()
    return PassResult(
        wall_s=round(max(ends), 3),
        p95_s=round(durations[math.ceil(0.95 * len(durations)) - 1], 3),
        mean_s=round(sum(durations) / len(durations), 3),
        prompt_tokens=sum(task.prompt_tokens for task in tasks),
        cached_tokens=sum(task.cached_tokens for task in tasks),
        loads=sum(task.load_s > 0 for task in tasks),
        tasks=tasks,
    )


def placements(database: str, run_ids: list[str], began: float) -> list[TaskResult]:
    """The ledger's record of the given runs, in the order of their claims."""
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT r.dag_id, r.run_id, r.stage, r.model, r.claimed_at, r.ended_at, r.reason, r.facts, d.device_id "
                "FROM fate_reservation r JOIN fate_reservation_device d ON d.reservation_id = r.id "
                "ORDER BY r.claimed_at"
            )
        ).all()
    engine.dispose()
    return [
        TaskResult(
            task=f"{row.dag_id}/{row.run_id}/{row.stage}",
            device=row.device_id,
            model=row.model,
            start_s=round(row.claimed_at - began, 3),
            end_s=round((row.ended_at or row.claimed_at) - began, 3),
            why=row.reason,
            **_facts(row.facts, row.device_id),
        )
        for row in rows
        if row.run_id in run_ids
    ]


def _facts(raw: Any, device: str) -> dict[str, Any]:
    all_facts = json.loads(raw) if isinstance(raw, str) else raw or []
    fact: dict[str, Any] = next((facts for facts in all_facts if facts["device"] == device), {})
    names = ("wait_s", "load_s", "prefill_s", "decode_s", "prompt_tokens", "cached_tokens")
    return {name: round(fact.get(name, 0), 3) for name in names}
