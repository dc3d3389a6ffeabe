"""Many runs at once: one's failure is not the others', and nothing outlives an interrupt."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from airflow_fate.bench.pool import run_all

_INTERRUPTED = """
import sys
from airflow_fate.bench.pool import run_all
from tests.unit.bench.test_pool import tell_and_sleep

if __name__ == "__main__":
    for done in run_all(tell_and_sleep, [sys.argv[1] + "/a", sys.argv[1] + "/b"], 2):
        pass
"""


def halve(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def die(number: int) -> int:
    os._exit(number)


def tell_and_sleep(path: str) -> None:
    """Writes its process id, then sleeps until it is ended."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failed_task_is_told_and_the_others_go_on(processes: int) -> None:
    done = {each.task: (each.result, each.error) for each in run_all(halve, [2, 3, 4], processes)}
    assert done == {2: (1, ""), 3: (None, "ValueError: 3 is odd"), 4: (2, "")}


def test_a_process_that_dies_fails_its_task_and_hangs_nobody() -> None:
    assert all("process died" in each.error for each in run_all(die, [1, 2], 2))


def test_who_stops_listening_leaves_no_process_behind(tmp_path: Path) -> None:
    with closing(run_all(halve, [2, 4, 6], 2)) as results:
        next(results)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(tmp_path: Path, sent: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(_INTERRUPTED)
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    files = [tmp_path / "a", tmp_path / "b"]
    _until(lambda: all(file.exists() and file.read_text() for file in files))
    parent.send_signal(sent)
    stderr = parent.communicate(timeout=20)[1]
    workers = [int(file.read_text()) for file in files]
    _until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert parent.returncode != 0
    assert stderr.count("Traceback") <= 1  # the script's own; the workers say nothing


def _until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
