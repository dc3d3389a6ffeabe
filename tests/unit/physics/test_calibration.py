"""How measured seconds move the cost model."""

from __future__ import annotations

import pytest

from airflow_fate.physics.calibration import observe, observe_load
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.law import Measured, Speeds, described_law

KEY = ("gpu", "m")
LAW = described_law(Speeds(1000.0, 50.0, 0.03, 0.0))


def test_loads_converge_to_the_measured_speed() -> None:
    costs = CostModel()
    for _ in range(60):
        costs = observe_load(costs, KEY, 2.0 / costs.load_factor.get(KEY, 1.0), 4.0)
    assert costs.load_factor[KEY] == pytest.approx(0.5, rel=1e-3)


def test_factors_stay_within_bounds() -> None:
    costs = CostModel()
    for _ in range(100):
        costs = observe_load(costs, KEY, 1e3, 1e-2)
    assert costs.load_factor[KEY] == 20.0


@pytest.mark.parametrize("measured", [Measured(0.0, 100.0), Measured(1e-4, 100.0)])
def test_nothing_measured_changes_nothing(measured: Measured) -> None:
    assert observe(CostModel(), KEY, LAW, "d", measured, alone=True) == CostModel()
    assert observe_load(CostModel(), KEY, 3.0, 0.0) == CostModel()


def test_the_argument_is_left_as_it_was() -> None:
    costs = CostModel()
    observe(costs, KEY, LAW, "d", Measured(1.0, 100.0), alone=True)
    assert costs == CostModel()
