"""Which joint assignment should begin now? The solver's, starting from what the rule chooses."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.physics.world.arrays import ABSENT, World, copy
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.joint import Shares
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.profile import Profile, make_profile
from airflow_fate.planner.search.joint.problem import AssignmentProblem, Column, build_problem
from airflow_fate.planner.search.joint.solve import Limit, assign, solve


@dataclass(frozen=True)
class JointAssignment:
    """Placements for all places at once.

    :param status: the solver's own word.
    :param objective_s: its price; ``bound_s`` is the least that any assignment can cost.
    """

    shares: Shares
    status: str
    objective_s: float
    bound_s: float


def improve_assignment(world: World, profile: Profile, rule: Rule, limit: Limit) -> JointAssignment | None:
    """The best assignment for this epoch; None where there is nothing to place, or nothing was found in time.

    The world is left as it is.
    """
    if not world.tally[0].ready:
        return None
    problem = build_problem(world, profile, rule)
    if not problem.columns:
        return None
    if problem.is_plain_assignment:
        solution = assign(problem)
    elif (solved := solve(problem, *_incumbent(world, rule, problem), limit)) is not None:
        solution = solved
    else:
        return None
    shares = tuple(
        (problem.stages[column.stage], at, prompts) for column in solution.chosen for at, prompts in column.shares
    )
    return JointAssignment(shares, solution.status, solution.objective_s, solution.bound_s)


def _incumbent(world: World, rule: Rule, problem: AssignmentProblem) -> tuple[dict[int, Column], set[tuple[int, int]]]:
    """What of the rule's choices is among the problem's columns, as far as each place has room; and what leaves."""
    dispatched = copy(world)
    profile = make_profile(dispatched, explain=True)
    dispatch(dispatched, profile, rule)
    number = {stage: at for at, stage in enumerate(problem.stages)}
    columns = {(column.stage, column.shares): column for column in problem.columns}
    shares: dict[int, list[tuple[int, int]]] = {}
    for row in profile.trace[: profile.counts[0].traced].tolist():
        stage, place, prompts, *_ = row
        shares.setdefault(number.get(stage, -1), []).append((place, prompts))
    room = dict(enumerate(problem.capacity))
    incumbent: dict[int, Column] = {}
    for stage, placed in shares.items():
        column = columns.get((stage, tuple(placed)))
        if column is None or any(room[at] < prompts for at, prompts in placed):
            continue
        if any(room[other] < problem.capacity[other] for at, _ in placed for other in problem.overlaps(at)):
            continue
        incumbent[stage] = column
        for at, prompts in placed:
            room[at] -= prompts
    was, is_now = world.resident["status"], dispatched.resident["status"]
    gone = {(int(at), int(m)) for at, m in zip(*((was != ABSENT) & (is_now == ABSENT)).nonzero(), strict=True)}
    return incumbent, gone
