"""What is a joint assignment worth? Seconds until its stages end, loads and harmful evictions paid once, deferring
priced."""

from __future__ import annotations

from ortools.sat.python import cp_model

from airflow_fate.planner.search.joint.problem import AssignmentProblem
from airflow_fate.planner.search.joint.variables import Variables

SCALE = 100
"""The solver counts in whole hundredths of a second."""


def minimize_price(model: cp_model.CpModel, problem: AssignmentProblem, variables: Variables) -> None:
    prices = [column.price_s for column in problem.columns]
    prices += problem.defer_s
    prices += [problem.load_s[key] for key in variables.load]
    prices += [problem.eviction_cost_s[key] for key in variables.evict]
    decided = [*variables.take, *variables.defer, *variables.load.values(), *variables.evict.values()]
    model.minimize(cp_model.LinearExpr.weighted_sum(decided, [round(SCALE * price) for price in prices]))
