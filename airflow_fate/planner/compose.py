"""What is the answer to the caller? Decisions as a plan with its reasons and its price."""

from __future__ import annotations

from airflow_fate.planner.choice import Choice, Left
from airflow_fate.planner.greedy import Decided
from airflow_fate.planner.plan import Assignment, Hold, Plan
from airflow_fate.planner.problem import Problem
from airflow_fate.planner.reasons import why_assigned, why_held, why_left

DEFER_PRICE = 4.0
"""Mean stage times that leaving a stage without a place costs; below 1, idling the cluster would pay."""


def compose(problem: Problem, decided: Decided, solver: str = "greedy", status: str = "HEURISTIC") -> Plan:
    now = problem.now
    return Plan(
        assignments=tuple(_assignment(choice) for choice in decided.choices if choice.start_s <= now),
        holds=(
            *(
                Hold(choice.queued.ref, choice.place, choice.start_s, why_held(choice, now))
                for choice in decided.choices
                if choice.start_s > now
            ),
            *(_hold(left, problem) for left in decided.left),
        ),
        impossible=problem.impossible,
        solver=solver,
        status=status,
        objective_s=objective_s(problem, decided),
    )


def objective_s(problem: Problem, decided: Decided) -> float:
    """The common price of a set of decisions: seconds until each stage ends, plus what that costs those after it.

    A stage that is left behind pays the end of the horizon and ``DEFER_PRICE`` mean stage times.
    """
    placed_s = sum(choice.finish_s - problem.now + choice.future_s for choice in decided.choices)
    return placed_s + len(decided.left) * deferred_s(problem)


def deferred_s(problem: Problem) -> float:
    """The price of leaving one stage without a place."""
    return problem.config.horizon_s + DEFER_PRICE * problem.mean_stage_s


def _assignment(choice: Choice) -> Assignment:
    return Assignment(
        ref=choice.queued.ref,
        model=choice.queued.demand.model,
        shares=choice.shares,
        start_s=choice.start_s + choice.shares[0].cost.wait_s,
        finish_s=choice.finish_s,
        evict=choice.evict,
        reason=why_assigned(choice),
        future_s=choice.future_s,
    )


def _hold(left: Left, problem: Problem) -> Hold:
    horizon_end_s = problem.now + problem.config.horizon_s
    until_s = left.until_s if left.until_s < float("inf") else horizon_end_s
    return Hold(left.queued.ref, "", max(problem.now, until_s), why_left(left, problem.now))
