"""Does the simulation notice? Guards are taken out in turn, in a copy of the sources: some schedule must then fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards.copies import copied, taken_out
from tests.guards.guards import GUARDS, Guard

SCHEDULES = 1000
HEARTBEAT = "airflow_fate/executor/heartbeat/heartbeat.py"
NAMES = {
    "a claim is granted where there is room": "capacity",
    "a lost share loses the whole claim": "capacity",
    "room is given back once": "capacity",
    "only what lives is ended": "capacity",
    "a stale fence is refused": "stranger",
    "an explicit end is final": "stranger",
}
"""Guards of `tests/guards` -> the promise that breaks without each."""
FOUND = [
    *(guard._replace(test=NAMES[guard.name]) for guard in GUARDS if guard.name in NAMES),
    Guard(
        "what a held try still holds is given back",
        HEARTBEAT,
        "outcomes = {**left_over, **ended}",
        "outcomes = dict(ended)",
        "lost",
    ),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("simulated"))


@pytest.mark.parametrize("guard", FOUND, ids=lambda guard: guard.name)
def test_without_a_guard_a_schedule_breaks_its_promise(copy: Path, guard: Guard) -> None:
    command = [sys.executable, "-B", "-m", "tests.faults.simulation", "--schedules", str(SCHEDULES), "--stop"]
    with taken_out(copy, guard):
        done = subprocess.run(
            command,
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f": {guard.test}: " in done.stdout
