"""The solver's child: it answers, and whatever goes wrong there neither raises nor outlasts its budget."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_fate.cluster import ClusterState, Device, Fleet, ModelSpec, Node
from airflow_fate.executor import solver as module
from airflow_fate.executor.solver import SolverProcess
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner.plan import Plan, PlanConfig, ReadyStage
from airflow_fate.workflow import Stage, StageRef, Workflow

FLEET = Fleet(
    {"n": Node("n")},
    {name: Device(name, "n", "cpu", 2e9, 8192, 1) for name in ("d0", "d1")},
    {"m": ModelSpec("m", 1e9, 1e9, 1e9, {"cpu": 100.0}, {"cpu": 10.0})},
)
WORKFLOW = Workflow("w", {name: Stage(name, model="m", prompt_tokens=100) for name in ("a", "b")})
FRONTIER = [ReadyStage(StageRef("w", name), 0.0) for name in ("a", "b")]


@contextmanager
def child(*code: str) -> Iterator[SolverProcess]:
    process = SolverProcess((sys.executable, "-c", code[0]) if code else (sys.executable, "-m", module.__name__))
    process.start()
    try:
        yield process
    finally:
        process.stop()


def answer(process: SolverProcess) -> Plan:
    """The plan of a child that gets ready first: until then nothing is asked."""
    deadline_s = time.monotonic() + 60
    while (plan := ask(process, 30.0)) is None:
        assert time.monotonic() < deadline_s, "the child never got ready"
        time.sleep(0.01)
    return plan


def ask(process: SolverProcess, budget_s: float) -> Plan | None:
    config = PlanConfig(deadline_s=budget_s / 2)
    return process.improve(FRONTIER, {"w": WORKFLOW}, ClusterState(FLEET), CostModel(), 0.0, config, budget_s)


def test_the_child_answers_with_a_plan() -> None:
    with child() as process:
        plan = answer(process)
    assert {assignment.ref for assignment in plan.assignments} == {ready.ref for ready in FRONTIER}


def test_a_child_that_crashes_costs_only_the_improvement() -> None:
    with child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") as process:
        assert process._child is not None
        process._child.wait()
        assert ask(process, 5.0) is None


def test_a_child_that_died_between_two_questions_is_said_once_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RESPAWN_S", 0.0)
    with child() as process:
        first = process._child
        assert first is not None
        first.kill()
        first.wait()
        assert ask(process, 5.0) is None
        assert process.alive
        assert process._child is not first
        answer(process)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("The solver's process ended with -9")


def test_a_child_that_is_slow_to_start_is_not_asked_and_lives() -> None:
    with child("import time; time.sleep(60)") as process:
        began = time.monotonic()
        assert [ask(process, 0.05) for _ in range(3)] == [None] * 3
        # Far less than the child would take, with room for a busy machine.
        assert time.monotonic() - began < 10
        assert process.alive
        assert process._asked == 0


def test_a_child_that_never_gets_ready_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "START_S", 0.0)
    with child("import time; time.sleep(60)") as process:
        assert ask(process, 0.05) is None
        assert not process.alive
    assert "The solver's process failed: OSError('never got ready')" in caplog.text


def test_a_child_that_hangs_is_cut_off_and_later_killed(caplog: pytest.LogCaptureFixture) -> None:
    with child() as process:
        answer(process)
        hung = process._child
        assert hung is not None
        hung.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert ask(process, 0.05) is None
        # Far less than the child would take, with room for a busy machine.
        assert time.monotonic() - began < 10
        process._overdue_at = time.monotonic() - 1
        assert ask(process, 0.05) is None
        assert hung.poll() is not None
    assert "The solver's process failed: OSError('no answer long after its deadline')" in caplog.text


def test_who_is_never_asked_is_replaced_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESPAWN_S", 0.0)
    with child() as process:
        first = process._child
        assert first is not None
        first.kill()
        first.wait()
        process.tend()
        assert process.alive
        assert process._child is not first


def test_an_answer_that_comes_late_is_not_taken_for_the_next_ones() -> None:
    with child() as process:
        answer(process)
        assert process._child is not None
        process._child.send_signal(signal.SIGSTOP)
        assert ask(process, 0.05) is None
        process._child.send_signal(signal.SIGCONT)
        assert {one.ref for one in answer(process).assignments} == {ready.ref for ready in FRONTIER}
        assert process.alive


def test_a_child_that_talks_nonsense_is_dropped() -> None:
    talk = "s.sendall(b'\\0' * 7 + b'\\x04' + b'junk'); s.recv(1)"
    code = f"import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); {talk}"
    with child(code) as process:
        deadline_s = time.monotonic() + 10
        while process.alive:
            assert time.monotonic() < deadline_s, "its nonsense was never heard"
            assert ask(process, 10.0) is None


def test_a_program_that_is_not_there_leaves_plans_greedy() -> None:
    process = SolverProcess(("/nonexistent/python",))
    process.start()
    assert not process.alive
    assert ask(process, 0.05) is None
