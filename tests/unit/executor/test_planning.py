"""The decider: it improves plans where it can, and whatever fails, there is a plan."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.cluster import ClusterState
from airflow_fate.executor.planning import Decider
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner.plan import Plan, PlanConfig, ReadyStage
from airflow_fate.workflow import Stage, StageRef, Workflow
from tests.unit.executor.builders import FLEET

WORKFLOW = Workflow("w", {name: Stage(name, model="m", prompt_tokens=100) for name in "ab"})
FRONTIER = [ReadyStage(StageRef("w", name), 0.0) for name in "ab"]


class Solver:
    """Stands for the child process."""

    def __init__(self, answer: Plan | None) -> None:
        self.answer = answer
        self.asked = 0

    def improve(self, *_: Any) -> Plan | None:
        self.asked += 1
        return self.answer


def decide(solver: Any = None, policy: str = "fate", budget_s: float = 10.0, broken: str = "") -> tuple[Plan, Decider]:
    decider = Decider(policy, PlanConfig(), solver, budget_s)

    def fail(*_: Any) -> Plan:
        raise RuntimeError("broken")

    if broken:
        decider._policy = fail
    if broken == "both":
        decider._fallback = fail
    return decider.decide(FRONTIER, {"w": WORKFLOW}, ClusterState(FLEET), CostModel(), 0.0), decider


def test_a_better_plan_of_the_solver_is_taken() -> None:
    better, _ = decide()
    solver = Solver(better)
    plan, _ = decide(solver)
    assert plan is better
    assert solver.asked == 1


def test_an_invalid_plan_of_the_solver_is_thrown_away(caplog: pytest.LogCaptureFixture) -> None:
    plan, _ = decide(Solver(Plan()))
    assert len(plan.assignments) == 2
    assert "invalid" in caplog.text


def test_without_time_the_solver_is_not_asked() -> None:
    solver = Solver(None)
    plan, _ = decide(solver, budget_s=0.0)
    assert solver.asked == 0
    assert len(plan.assignments) == 2


def test_a_baseline_is_never_improved() -> None:
    solver = Solver(None)
    decide(solver, policy="round_robin")
    assert solver.asked == 0


def test_when_the_policy_fails_round_robin_decides_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    plan, decider = decide(broken="policy")
    assert len(plan.assignments) == 2
    assert "degraded to round_robin" in caplog.text
    assert decider.degraded


def test_a_failure_that_goes_on_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    _, decider = decide(broken="policy")
    decider.decide(FRONTIER, {"w": WORKFLOW}, ClusterState(FLEET), CostModel(), 0.0)
    assert caplog.text.count("Planning is degraded") == 1


def test_a_solver_without_an_answer_leaves_the_greedy_plan() -> None:
    plan, _ = decide(Solver(None))
    assert len(plan.assignments) == 2
    assert plan.solver == "greedy"


def test_when_everything_fails_nothing_is_planned_and_nothing_raised() -> None:
    plan, _ = decide(broken="both")
    assert plan == Plan(solver="none")


def test_a_frontier_too_large_to_hand_over_keeps_its_greedy_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_fate.executor.planning.MOST_STAGES", 1)
    solver = Solver(None)
    plan, _ = decide(solver)
    assert solver.asked == 0
    assert len(plan.assignments) == 2
