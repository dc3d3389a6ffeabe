"""Geometric means, their intervals, and who is strongest."""

from __future__ import annotations

import math

import pytest

from airflow_fate.bench.report.ratios import figures
from airflow_fate.bench.suite.job import Job, Outcome

ONE, TWO = ("real-dag", "one"), ("real-dag", "two")


def outcome(policy: str, scenario: str, seed: int, mean_s: float) -> Outcome:
    return Outcome(Job("real-dag", scenario, seed, policy), {"mean_s": mean_s}, {}, 0.0, "suite", "code")


def by_policy(outcome: Outcome) -> str:
    return outcome.job.policy


def test_a_ratio_is_the_geometric_mean_over_scenarios_that_count_alike() -> None:
    runs = [outcome("rr", "one", seed, 10) for seed in range(4)] + [outcome("rr", "two", 0, 1000)]
    runs += [outcome("eft", "one", seed, 20) for seed in range(4)] + [outcome("eft", "two", 0, 125)]
    compared, _ = figures(runs, "mean", by_policy)
    assert compared.ratio("eft", "rr").value == pytest.approx(math.sqrt(2 * 0.125))
    assert compared.ratio("eft", "rr", [TWO]).value == pytest.approx(0.125)
    assert compared.in_scenario("eft", "rr", ONE) == pytest.approx(2)


def test_runs_without_a_counterpart_are_left_out_and_named() -> None:
    runs = [outcome("rr", "one", 0, 10), outcome("rr", "one", 1, 10), outcome("eft", "one", 0, 5)]
    compared, left_out = figures(runs, "mean", by_policy)
    assert compared.ratio("eft", "rr").value == pytest.approx(0.5)
    assert left_out == ["real-dag/one seed 1"]


def test_an_interval_is_a_point_without_scatter_and_wider_with_it() -> None:
    def interval(values: list[float]) -> tuple[float, float]:
        runs = [outcome("rr", "one", seed, 10) for seed in range(len(values))]
        runs += [outcome("eft", "one", seed, value) for seed, value in enumerate(values)]
        ratio = figures(runs, "mean", by_policy)[0].ratio("eft", "rr")
        assert ratio.low <= ratio.value <= ratio.high
        return ratio.low, ratio.high

    low, high = interval([8, 8, 8])
    assert low == pytest.approx(high)
    low, high = interval([4, 8, 16])
    assert low < 0.6 < 1.1 < high


def test_the_strongest_is_the_one_with_the_least_mean_among_the_scenarios_asked_for() -> None:
    runs = [outcome("a", "one", 0, 1), outcome("b", "one", 0, 2), outcome("a", "two", 0, 90), outcome("b", "two", 0, 2)]
    compared, _ = figures(runs, "mean", by_policy)
    assert compared.strongest(["a", "b"], [ONE, TWO]) == "b"
    assert compared.best_in(["a", "b"], ONE) == "a"
    assert compared.strongest([], [ONE]) is None


def test_without_any_common_run_there_is_no_figure() -> None:
    compared, left_out = figures([outcome("a", "one", 0, 1), outcome("b", "two", 0, 2)], "mean", by_policy)
    assert math.isnan(compared.ratio("a", "b").value)
    assert compared.strongest(["a", "b"], [ONE]) is None
    assert len(left_out) == 2
