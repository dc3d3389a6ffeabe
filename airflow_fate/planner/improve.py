"""Is there a better plan than the incumbent? One wave solved for all places at once, the rest behind it."""

from __future__ import annotations

from dataclasses import replace

from airflow_fate.planner.choice import Choice
from airflow_fate.planner.compose import compose
from airflow_fate.planner.cpsat.solve import Result, assign, solve
from airflow_fate.planner.cpsat.wave import Column, Wave, build_wave
from airflow_fate.planner.greedy import Decided, place_all
from airflow_fate.planner.outlook import Outlook
from airflow_fate.planner.plan import Plan
from airflow_fate.planner.problem import Problem

_BUILD_S_PER_COLUMN = 8e-5
_LEAST_WALL_S = 2e-3


def improved(problem: Problem, decided: Decided) -> Plan | None:
    """The plan around the solver's wave; None where the deadline leaves no time for it or there is no wave."""
    outlook = problem.outlook()
    wave = build_wave(problem, outlook)
    # The core knows no clock: the time to build the model is taken from the deadline by its size.
    wall_s = problem.config.deadline_s - _BUILD_S_PER_COLUMN * len(wave.columns)
    if not wave.columns or wall_s < _LEAST_WALL_S:
        return None
    result = _solved(problem, outlook, wave, decided, wall_s)
    if result is None:
        return None
    bound = {
        wave.stages[column.stage].ref: tuple(outlook.places[at] for at, _ in column.shares) for column in result.chosen
    }
    plan = compose(problem, place_all(problem, problem.outlook(), bound), result.solver, result.status)
    return replace(plan, bound_s=result.bound_s)


def _solved(problem: Problem, outlook: Outlook, wave: Wave, decided: Decided, wall_s: float) -> Result | None:
    groups = any(outlook.overlaps(at) for at in range(len(outlook.places)))
    if wave.is_plain_assignment and not groups:
        return assign(wave)
    return solve(wave, problem, outlook, _taken(wave, outlook, decided.choices), wall_s)


def _taken(wave: Wave, outlook: Outlook, choices: tuple[Choice, ...]) -> dict[int, Column]:
    """What of the greedy plan lies in the wave: as many of its choices as fit into each place's first turn."""
    number = {queued.ref: stage for stage, queued in enumerate(wave.stages)}
    columns = {(c.stage, tuple(outlook.places[at] for at, _ in c.shares)): c for c in wave.columns}
    room = dict(enumerate(wave.capacity))
    taken: dict[int, Column] = {}
    for choice in choices:
        stage = number.get(choice.queued.ref, -1)
        column = columns.get((stage, tuple(share.place for share in choice.shares)))
        if column is not None and all(room[at] >= prompts for at, prompts in column.shares):
            taken[stage] = column
            for at, prompts in column.shares:
                room[at] -= prompts
    return taken
