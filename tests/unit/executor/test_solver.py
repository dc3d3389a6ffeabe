"""The solver's child: it answers, and whatever goes wrong there neither raises nor outlasts its budget."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

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


def ask(process: SolverProcess, budget_s: float) -> Plan | None:
    config = PlanConfig(deadline_s=budget_s / 2)
    return process.improve(FRONTIER, {"w": WORKFLOW}, ClusterState(FLEET), CostModel(), 0.0, config, budget_s)


def test_the_child_answers_with_a_plan() -> None:
    with child() as process:
        plan = ask(process, 30.0)
    assert plan is not None
    assert {assignment.ref for assignment in plan.assignments} == {ready.ref for ready in FRONTIER}


def test_a_child_that_crashes_costs_only_the_improvement() -> None:
    with child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") as process:
        assert process._child is not None
        process._child.wait()
        assert ask(process, 5.0) is None


def test_a_child_that_hangs_is_cut_off_and_later_killed(monkeypatch: object) -> None:
    with child("import time; time.sleep(60)") as process:
        hung = process._child
        began = time.monotonic()
        assert ask(process, 0.05) is None
        # Far less than the child would take, with room for a busy machine.
        assert time.monotonic() - began < 10
        process._overdue_at = time.monotonic() - 1
        assert ask(process, 0.05) is None
        assert hung is not None
        assert hung.poll() is not None


def test_a_child_that_talks_nonsense_is_dropped() -> None:
    talk = "s.sendall(b'\\0' * 7 + b'\\x04' + b'junk'); s.recv(1)"
    code = f"import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); {talk}"
    with child(code) as process:
        assert ask(process, 10.0) is None
        assert not process.alive


def test_a_program_that_is_not_there_leaves_plans_greedy() -> None:
    process = SolverProcess(("/nonexistent/python",))
    process.start()
    assert not process.alive
    assert ask(process, 0.05) is None
