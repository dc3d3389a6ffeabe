"""``fate demo`` can be stopped at any time, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.more, pytest.mark.integration, pytest.mark.engine]


def started_by(out: Path) -> list[psutil.Process]:
    """Everything that runs for a demo with this folder: Airflow by its environment, gateways by their arguments."""
    started = []
    for process in psutil.process_iter():
        try:
            about = [process.environ().get("AIRFLOW_HOME", ""), *process.cmdline()]
            if any(text.startswith(str(out)) for text in about) and process.status() != psutil.STATUS_ZOMBIE:
                started.append(process)
        except psutil.Error:
            continue
    return started


def has_bound(out: Path) -> bool:
    """Whether a task of the first pass (not only the warm-up) was bound."""
    database = out / "airflow" / "airflow.db"
    if not database.is_file():
        return False
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as connection:
            query = "SELECT count(*) FROM fate_reservation WHERE dag_id != 'fate_demo_warmup' AND ended_at IS NULL"
            return bool(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return False


def test_ctrl_c_in_mid_run_ends_everything_that_was_started(tmp_path: Path) -> None:
    out = tmp_path / "demo-out"
    said = tmp_path / "said"
    with said.open("wb") as output:
        command = [sys.executable, "-m", "airflow_fate.cli.main", "demo", "--out", str(out), "--runs", "1"]
        demo = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not has_bound(out):
            assert demo.poll() is None, said.read_text()
            assert time.monotonic() < deadline, "nothing was ever bound"
            time.sleep(0.2)
        running = started_by(out)
        assert {"airflow_fate.gateway", "scheduler"} <= {part for process in running for part in process.cmdline()}
        demo.send_signal(signal.SIGINT)
        while len(started_by(out)) >= len(running):
            assert time.monotonic() < deadline + 60, "nothing was ended"
            time.sleep(0.1)
        # It is at it: somebody who is impatient must not keep it from ending the rest.
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
    assert started_by(out) == []
    text = said.read_text()
    assert "everything that was started has been ended" in text
    assert "Traceback" not in text
