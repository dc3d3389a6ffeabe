"""What is a wave worth? Seconds until its stages end, loads and harmful evictions paid once, deferring priced."""

from __future__ import annotations

from ortools.sat.python import cp_model

from airflow_fate.planner.cpsat.variables import Variables
from airflow_fate.planner.cpsat.wave import Wave

SCALE = 100
"""The solver counts in whole hundredths of a second."""


def minimize_price(model: cp_model.CpModel, wave: Wave, variables: Variables) -> None:
    prices = [column.price_s for column in wave.columns]
    prices += wave.defer_s
    prices += [wave.load_s[key] for key in variables.load]
    prices += [wave.harm_s[key] for key in variables.evict]
    decided = [*variables.take, *variables.defer, *variables.load.values(), *variables.evict.values()]
    model.minimize(cp_model.LinearExpr.weighted_sum(decided, [round(SCALE * price) for price in prices]))
