"""How measured seconds move the cost model."""

from __future__ import annotations

import pytest

from airflow_fate.physics import CostModel, CostParts, observe


def test_repeated_facts_converge_to_the_measured_speed() -> None:
    costs = CostModel()
    for _ in range(60):
        predicted = CostParts(prefill_s=2.0 / costs.prefill_factor.get(("gpu", "m"), 1.0))
        costs = observe(costs, "gpu", "m", predicted, CostParts(prefill_s=4.0))
    assert costs.prefill_factor["gpu", "m"] == pytest.approx(0.5, rel=1e-3)


def test_nothing_measured_changes_nothing() -> None:
    assert observe(CostModel(), "gpu", "m", CostParts(load_s=3.0), CostParts()) == CostModel()


def test_factors_stay_within_bounds() -> None:
    costs = CostModel()
    for _ in range(100):
        costs = observe(costs, "gpu", "m", CostParts(decode_s=1e3), CostParts(decode_s=1e-2))
    assert costs.decode_factor["gpu", "m"] == 20.0


def test_the_argument_is_left_as_it_was() -> None:
    costs = CostModel()
    observe(costs, "gpu", "m", CostParts(load_s=1.0), CostParts(load_s=2.0))
    assert costs == CostModel()
