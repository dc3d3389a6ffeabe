"""The decider: it plans by the best rule that is known, and whatever fails, there is a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from airflow_fate.cluster import ClusterState
from airflow_fate.executor.planning.decider import ASK_EVERY_S, Decider
from airflow_fate.executor.planning.isolation import culprits
from airflow_fate.executor.planning.solver import BetterRule, Question
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner.dispatch.rule import Rule, changed
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.plan import Placed, Plan, PlanConfig, Policy, Problem, ReadyStage
from airflow_fate.planner.policies import policy as find_policy
from airflow_fate.workflow import Stage, StageRef, Workflow
from tests.unit.executor.builders import FLEET

WORKFLOW = Workflow("w", {name: Stage(name, model="m", prompt_tokens=100) for name in "abc"})
FRONTIER = [ReadyStage(StageRef("w", name), 0.0) for name in "ab"]
BETTER = changed(GREEDY_IN_HEARTBEAT, by_work=2.0)


class Solver:
    """Stands for the child process: it answers once, and takes questions unless it is busy."""

    def __init__(self, answer: Rule | None = None, joint: tuple[Placed, ...] = (), busy: bool = False) -> None:
        self.answers = [BetterRule(answer, joint)] if answer else []
        self.busy = busy
        self.questions: list[Question] = []

    def answer(self) -> BetterRule | None:
        return self.answers.pop() if self.answers else None

    def ask(self, question: Question) -> bool:
        if not self.busy:
            self.questions.append(question)
        return not self.busy


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def decider(
    solver: Any = None, name: str = "fate", clock: Clock | None = None, **changed: Callable[[Policy], Policy]
) -> Decider:
    """A decider.

    :param changed: policies by name, as changed from what they are.
    """

    def find(wanted: str) -> Policy:
        policy = find_policy(wanted)
        return changed[wanted](policy) if wanted in changed else policy

    return Decider(name, solver, clock=clock or Clock(), find=find)


def broken(_: Policy) -> Policy:
    def fail(problem: Problem, config: PlanConfig) -> Plan:
        raise RuntimeError("broken")

    return fail


def noting(seen: list[tuple[Problem, PlanConfig]]) -> Callable[[Policy], Policy]:
    """Notes what a policy is asked."""

    def change(policy: Policy) -> Policy:
        def plan(problem: Problem, config: PlanConfig) -> Plan:
            seen.append((problem, config))
            return policy(problem, config)

        return plan

    return change


def decide(by: Decider, frontier: list[ReadyStage] = FRONTIER) -> Plan:
    return by.decide(Problem(frontier, {"w": WORKFLOW}, ClusterState(FLEET), CostModel(), 0.0))


def test_the_first_plan_is_greedy_and_the_child_is_asked() -> None:
    solver = Solver()
    assert decide(decider(solver)).solver == "greedy"
    (question,) = solver.questions
    assert question.incumbent == question.greedy == GREEDY_IN_HEARTBEAT


def test_a_rule_that_was_found_is_followed_from_then_on() -> None:
    by = decider(Solver(BETTER))
    assert [decide(by).solver for _ in range(2)] == ["search", "search"]


def test_a_rule_that_was_found_is_the_next_questions_incumbent() -> None:
    solver = Solver(BETTER)
    decide(decider(solver))
    assert solver.questions[0].incumbent == BETTER


def test_a_joint_assignment_that_was_found_is_begun_once() -> None:
    seen: list[tuple[Problem, PlanConfig]] = []
    by = decider(Solver(BETTER, (Placed(StageRef("w", "b"), "d1", 1),)), fate=noting(seen))
    decide(by)
    decide(by)
    assert [len(config.joint) for _, config in seen] == [1, 0]
    assert seen[1][1].rule == BETTER


def test_an_invalid_plan_is_thrown_away_with_its_rule(caplog: pytest.LogCaptureFixture) -> None:
    def forgetful(_: Policy) -> Policy:
        return lambda problem, config: Plan(solver="x" if config.rule else "greedy")

    by = decider(Solver(BETTER), fate=forgetful)
    assert decide(by).solver == "greedy"
    assert "invalid" in caplog.text


def test_the_same_frontier_is_asked_about_once() -> None:
    solver, clock = Solver(), Clock()
    by = decider(solver, clock=clock)
    for _ in range(3):
        decide(by)
        clock.now += ASK_EVERY_S
    assert len(solver.questions) == 1


def test_a_frontier_that_changes_often_is_not_asked_about_each_time() -> None:
    solver, clock = Solver(), Clock()
    by = decider(solver, clock=clock)
    three = [*FRONTIER, ReadyStage(StageRef("w", "c"), 0.0)]
    for number in range(6):
        decide(by, (FRONTIER, three, three[1:])[number % 3])
        clock.now += ASK_EVERY_S / 2
    assert len(solver.questions) == 3


def test_a_busy_child_is_asked_later() -> None:
    solver = Solver(busy=True)
    by = decider(solver)
    decide(by)
    solver.busy = False
    decide(by)
    assert len(solver.questions) == 1


def test_a_baseline_is_never_improved() -> None:
    solver = Solver()
    assert decide(decider(solver, name="eft")).solver == "eft"
    assert not solver.questions


def test_when_the_policy_fails_round_robin_decides_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    by = decider(fate=broken)
    assert len(decide(by).assignments) == 2
    assert "degraded to round_robin" in caplog.text
    assert by.degraded


def test_a_failure_that_goes_on_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    by = decider(fate=broken)
    for _ in range(2):
        decide(by)
    assert caplog.text.count("Planning is degraded") == 1


def test_when_everything_fails_all_are_held_with_the_reason_and_nothing_raised() -> None:
    plan = decide(decider(fate=broken, round_robin=broken))
    assert (plan.solver, plan.assignments, plan.impossible) == ("none", (), ())
    assert [hold.ref.stage for hold in plan.holds] == ["a", "b"]
    assert "broken" in plan.holds[0].reason


# A task that a policy chokes on


def choking(policy: Policy) -> Policy:
    """The policy, failing on any frontier that has stage b."""

    def plan(problem: Problem, config: PlanConfig) -> Plan:
        if any(ready.ref.stage == "b" for ready in problem.frontier):
            raise OverflowError("too large")
        return policy(problem, config)

    return plan


THREE = [ReadyStage(StageRef("w", name), 0.0) for name in "abc"]


def stages_of(plan: Plan) -> set[str]:
    """Those that it places or holds."""
    return {answer.ref.stage for answer in plan.assignments} | {answer.ref.stage for answer in plan.holds}


def test_a_task_that_the_policy_chokes_on_is_placed_alone_and_the_others_are_planned_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    by = decider(fate=choking)
    plan = decide(by, THREE)
    assert stages_of(plan) == {"a", "b", "c"}
    assert plan.solver == "greedy"
    assert not by.degraded
    assert "w/b can't be planned by fate" in caplog.text


def test_a_culprit_is_looked_for_once() -> None:
    seen: list[tuple[Problem, PlanConfig]] = []
    by = decider(fate=lambda policy: noting(seen)(choking(policy)))
    decide(by, THREE)
    seen.clear()
    decide(by, THREE)
    assert [len(problem.frontier) for problem, _ in seen] == [2]


def test_a_task_that_nothing_can_plan_fails_with_the_reason_and_the_others_are_bound() -> None:
    by = decider(fate=choking, round_robin=choking)
    plan = decide(by, THREE)
    assert [(impossible.ref.stage, "too large" in impossible.reason) for impossible in plan.impossible] == [("b", True)]
    assert stages_of(plan) == {"a", "c"}


def test_where_the_policy_fails_anyway_the_fallback_still_isolates_a_culprit() -> None:
    by = decider(fate=broken, round_robin=choking)
    plan = decide(by, THREE)
    assert [impossible.ref.stage for impossible in plan.impossible] == ["b"]
    assert stages_of(plan) == {"a", "c"}
    assert by.degraded


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_culprits_are_found_wherever_they_stand(count: int) -> None:
    frontier = [ReadyStage(StageRef("w", str(number)), 0.0) for number in range(count + 1)]
    for at in range(count):

        def plan(part: Sequence[ReadyStage], at: int = at) -> None:
            if any(ready.ref.stage == str(at) for ready in part):
                raise OverflowError("too large")

        named = culprits(frontier, plan)
        assert [ready.ref.stage for ready in named] == [str(at)]
