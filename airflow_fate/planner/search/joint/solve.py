"""Which joint assignment is best? CP-SAT, warm-started with what the rule chose, or a linear assignment where that is
the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_fate.planner.search.joint.problem import AssignmentProblem, Column

_GAP = 0.01
_NEVER_S = 1e6
_PREFILL_S = 2.0


@dataclass(frozen=True)
class Result:
    """A solved assignment problem.

    :param status: the solver's own word.
    :param chosen: the columns that are taken.
    :param objective_s: its price; ``bound_s`` is the least that any assignment can cost.
    """

    status: str
    chosen: tuple[Column, ...]
    objective_s: float
    bound_s: float

    @property
    def gap(self) -> float:
        """How far it may be from the best, relative to its price."""
        return (self.objective_s - self.bound_s) / self.objective_s if self.objective_s > 0 else 0.0


@dataclass(frozen=True)
class Limit:
    """How long to look.

    :param deterministic: CP-SAT's deterministic time, for reproducible runs; 0 is none.
    """

    wall_s: float
    deterministic: float = 0.0
    seed: int = 0


def assign(problem: AssignmentProblem) -> Result:
    """The best assignment where every place takes at most one stage: a linear assignment (Jonker and Volgenant)."""
    count, places = len(problem.stages), len(problem.capacity)
    prices = np.full((count, places + count), _NEVER_S)
    by_cell: dict[tuple[int, int], Column] = {}
    for column, price_s in zip(problem.columns, problem.own_price_s, strict=True):
        at = column.shares[0][0]
        prices[column.stage, at] = price_s
        by_cell[column.stage, at] = column
    prices[np.arange(count), places + np.arange(count)] = problem.defer_s
    rows, cells = linear_sum_assignment(prices)
    chosen = tuple(by_cell[r, c] for r, c in zip(rows.tolist(), cells.tolist(), strict=True) if c < places)
    total_s = float(prices[rows, cells].sum())
    return Result("OPTIMAL", chosen, total_s, total_s)


def solve(
    problem: AssignmentProblem, incumbent: Mapping[int, Column], evicted: set[tuple[int, int]], limit: Limit
) -> Result | None:
    """The best assignment that CP-SAT finds within the limit; None when it finds none.

    :param incumbent: stage of the problem -> the column that the rule takes.
    :param evicted: (place, model) that leave for the incumbent.
    """
    from ortools.sat.python import cp_model

    from airflow_fate.planner.search.joint.constraints import Constraints
    from airflow_fate.planner.search.joint.objective import SCALE, minimize_price
    from airflow_fate.planner.search.joint.variables import make_variables

    model = cp_model.CpModel()
    variables = make_variables(model, problem)
    Constraints(model, problem, variables).add_all(_PREFILL_S)
    minimize_price(model, problem, variables)
    loads = {(at, problem.model(column)) for column in incumbent.values() for at, _ in column.shares}
    for column, take in zip(problem.columns, variables.take, strict=True):
        model.add_hint(take, incumbent.get(column.stage) == column)
    for stage, defer in enumerate(variables.defer):
        model.add_hint(defer, stage not in incumbent)
    for key, load in variables.load.items():
        model.add_hint(load, key in loads)
    for key, evict in variables.evict.items():
        model.add_hint(evict, key in evicted)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    solver.parameters.relative_gap_limit = _GAP
    solver.parameters.random_seed = limit.seed
    solver.parameters.max_time_in_seconds = limit.wall_s
    if limit.deterministic > 0:
        solver.parameters.max_deterministic_time = limit.deterministic
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    chosen = tuple(c for c, take in zip(problem.columns, variables.take, strict=True) if solver.value(take))
    return Result(
        solver.status_name(status), chosen, solver.objective_value / SCALE, solver.best_objective_bound / SCALE
    )
