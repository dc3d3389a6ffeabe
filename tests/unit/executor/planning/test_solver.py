"""The solver's child: it answers, and whatever goes wrong there is neither raised nor waited for."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from airflow_fate.cluster import ClusterState, Device, Fleet, ModelSpec, Node
from airflow_fate.executor.planning import solver as module
from airflow_fate.executor.planning.solver import Question, SolverProcess
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.restart.snapshot import Snapshot, snapshot
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.plan import ReadyStage
from airflow_fate.workflow import Stage, StageRef, Workflow
from tests.until import until

FLEET = Fleet(
    {"n": Node("n")},
    {name: Device(name, "n", "cpu", 2e9, 8192, 1) for name in ("d0", "d1")},
    {"m": ModelSpec("m", 1e9, 1e9, 1e9, {"cpu": 100.0}, {"cpu": 10.0})},
)
WORKFLOW = Workflow("w", {name: Stage(name, model="m", prompt_tokens=100) for name in ("a", "b")})
FRONTIER = [ReadyStage(StageRef("w", name), 0.0) for name in ("a", "b")]
READY = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall(b'\\0' * 7 + b'\\x02' + b'N.');"
"""A child that says that it is ready, and then does something else than it should."""


def question(limit_s: float = 0.2) -> Question:
    def world() -> Snapshot:
        return snapshot(FRONTIER, [WORKFLOW], ClusterState(FLEET), CostModel(), 0.0)

    return Question(world, GREEDY_IN_HEARTBEAT, GREEDY_IN_HEARTBEAT, "balanced", 0, limit_s)


@contextmanager
def child(*code: str) -> Iterator[SolverProcess]:
    process = SolverProcess((sys.executable, "-c", code[0]) if code else (sys.executable, "-m", module.__name__))
    process.start()
    try:
        yield process
    finally:
        process.stop()


def first_of_all(code: str, flag: Path) -> str:
    """A child that runs the code, but is as it should be once the file exists that this one leaves."""
    return "\n".join(
        (
            "import pathlib",
            f"flag = pathlib.Path({str(flag)!r})",
            "if flag.exists():",
            f"    {READY} s.recv(1)",
            "else:",
            "    flag.touch()",
            f"    {code}",
        )
    )


def running(code: str) -> psutil.Process:
    """The child that runs this code now."""
    (process,) = [process for process in psutil.Process().children() if code in process.cmdline()]
    return process


def ask(process: SolverProcess, limit_s: float = 0.2, ready_within_s: float = 30.0) -> None:
    until(lambda: process.ask(question(limit_s)), ready_within_s)


def test_the_child_answers_with_a_rule() -> None:
    with child() as process:
        # It may have to compile the kernel.
        ask(process, ready_within_s=600)
        better = until(process.answer)
        assert process.answer() is None
        ask(process)
    assert better is not None
    assert isinstance(better.rule, Rule)
    assert {placed.ref for placed in better.joint} <= {ready.ref for ready in FRONTIER}


def test_one_question_at_a_time() -> None:
    with child(READY + "s.recv(1); import time; time.sleep(60)") as process:
        ask(process)
        assert not process.ask(question())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with -11"),
        ("import sys; sys.exit(3)", "ended with 3"),
        (
            "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall(b'\\0' * 7 + b'\\x04junk')",
            "failed",
        ),
    ],
)
def test_a_child_that_fails_is_said_once_and_replaced(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with child(first_of_all(code, tmp_path / "failed")) as process:
        until(lambda: not process.alive)
        monkeypatch.setattr(module, "RESPAWN_S", 0.0)
        process.tend()
        assert process.alive
        process.tend()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"The solver's process {words}")


def test_a_child_that_dies_while_nobody_asks_is_said_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "RESPAWN_S", 0.0)
    code = READY + "s.recv(1); import time; time.sleep(60)"
    with child(code) as process:
        until(lambda: "is ready" in caplog.text)
        running(code).kill()
        until(lambda: not process.alive)
        process.tend()
        assert process.alive
    assert "The solver's process ended with -9" in caplog.text


def test_a_new_child_is_not_started_at_once() -> None:
    with child("import sys; sys.exit(3)") as process:
        until(lambda: not process.alive)
        process.tend()
        assert not process.alive


@pytest.mark.parametrize(
    ("code", "start_s"), [("import time; time.sleep(60)", 0.5), (READY + "import time; time.sleep(60)", 2.0)]
)
def test_a_child_that_hangs_is_killed(
    code: str, start_s: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "START_S", start_s)
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    with child(code) as process:
        if code.startswith(READY):
            ask(process, limit_s=0.1)
        hung = running(code)
        until(lambda: not process.alive)
        process.tend()
        assert not hung.is_running()
    assert "The solver's process does not answer" in caplog.text


def test_a_child_that_is_slow_to_start_is_not_asked_and_not_waited_for() -> None:
    with child("import time; time.sleep(60)") as process:
        began = time.monotonic()
        assert not process.ask(question())
        assert process.answer() is None
        process.tend()
        # Far less than the child would take, with room for a busy machine.
        assert time.monotonic() - began < 10
        assert process.alive


def test_a_program_that_is_not_there_leaves_plans_greedy(caplog: pytest.LogCaptureFixture) -> None:
    process = SolverProcess(("/nonexistent/python",))
    process.start()
    assert not process.alive
    assert not process.ask(question())
    assert process.answer() is None
    assert "can't be started" in caplog.text
