"""Which wave is best? CP-SAT, warm-started with the greedy plan, or a linear assignment where that is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_fate.planner.cpsat.wave import Column, Wave
from airflow_fate.planner.outlook import Outlook
from airflow_fate.planner.problem import Problem

_GAP = 0.01
_NEVER_S = 1e6


@dataclass(frozen=True)
class Result:
    """A solved wave.

    :param status: the solver's own word.
    :param chosen: the columns that are taken.
    :param objective_s: its price; ``bound_s`` is the least that any wave can cost.
    """

    solver: str
    status: str
    chosen: tuple[Column, ...]
    objective_s: float
    bound_s: float

    @property
    def gap(self) -> float:
        """How far it may be from the best, relative to its price."""
        return (self.objective_s - self.bound_s) / self.objective_s if self.objective_s > 0 else 0.0


def assign(wave: Wave) -> Result:
    """The best wave where every place takes at most one stage: a linear assignment (Jonker and Volgenant)."""
    count, places = len(wave.stages), len(wave.capacity)
    prices = np.full((count, places + count), _NEVER_S)
    by_cell: dict[tuple[int, int], Column] = {}
    for column, price_s in zip(wave.columns, wave.own_price_s, strict=True):
        at = column.shares[0][0]
        if wave.capacity[at]:
            prices[column.stage, at] = price_s
            by_cell[column.stage, at] = column
    prices[np.arange(count), places + np.arange(count)] = wave.defer_s
    rows, cells = linear_sum_assignment(prices)
    chosen = tuple(by_cell[r, c] for r, c in zip(rows.tolist(), cells.tolist(), strict=True) if c < places)
    total_s = float(prices[rows, cells].sum())
    return Result("assignment", "OPTIMAL", chosen, total_s, total_s)


def solve(
    wave: Wave, problem: Problem, outlook: Outlook, incumbent: Mapping[int, Column], wall_s: float
) -> Result | None:
    """The best wave that CP-SAT finds within ``wall_s``; None when it finds none.

    :param incumbent: stage -> the column that the greedy plan takes.
    """
    from ortools.sat.python import cp_model

    from airflow_fate.planner.cpsat.constraints import Constraints
    from airflow_fate.planner.cpsat.objective import SCALE, minimize_price
    from airflow_fate.planner.cpsat.variables import make_variables

    config = problem.config
    model = cp_model.CpModel()
    variables = make_variables(model, wave, outlook)
    Constraints(model, wave, outlook, variables).add_all(config.bind_ahead_s)
    minimize_price(model, wave, outlook, variables, problem.harm)
    loads = {(at, wave.model(column)) for column in incumbent.values() for at, _ in column.shares}
    evicted = {pair for at, name in loads & variables.load.keys() for pair in outlook.evictions(at, name)}
    for column, take in zip(wave.columns, variables.take, strict=True):
        model.add_hint(take, incumbent.get(column.stage) == column)
    for stage, defer in enumerate(variables.defer):
        model.add_hint(defer, stage not in incumbent)
    for key, load in variables.load.items():
        model.add_hint(load, key in loads)
    for (at, name), evict in variables.evict.items():
        model.add_hint(evict, (outlook.places[at], name) in evicted)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    solver.parameters.relative_gap_limit = _GAP
    solver.parameters.random_seed = config.seed
    solver.parameters.max_time_in_seconds = wall_s
    if config.deterministic_limit > 0:
        solver.parameters.max_deterministic_time = config.deterministic_limit
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    chosen = tuple(c for c, take in zip(wave.columns, variables.take, strict=True) if solver.value(take))
    return Result(
        "cpsat",
        solver.status_name(status),
        chosen,
        solver.objective_value / SCALE,
        solver.best_objective_bound / SCALE,
    )
