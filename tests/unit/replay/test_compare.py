"""Predicted beside real."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.replay.compare import Comparison, Errors, compare, order, stage_errors
from airflow_fate.simulator.simulate import simulate
from tests.unit.replay.builders import FLEET, chat, workload


def stage(name: str, bound_s: float, expected_s: float, ended_s: float, prompts: int = 1) -> list[dict[str, Any]]:
    ref = {"workflow": "w", "stage": name}
    return [
        {"t": bound_s, "event": "bind", **ref, "prompts": prompts, "expected_end_s": expected_s},
        {"t": ended_s, "event": "finish", **ref},
    ]


def test_a_stages_error_is_of_its_time_from_bind_to_end() -> None:
    events = sorted([*stage("a", 10.0, 14.0, 15.0, 3), *stage("b", 20.0, 30.0, 25.0)], key=lambda event: event["t"])
    before, errors = zip(*stage_errors(events), strict=True)
    assert before == (0, 3)
    assert errors == pytest.approx((0.2, 1.0))


def test_a_simulation_predicts_itself() -> None:
    run = simulate(workload(chat("one"), chat("two")), FLEET, "round_robin")
    events = [event | {"expected_end_s": event["t"]} for event in run.events]
    compared = compare(events, run.summary, run.events, run.summary)
    assert compared.workflows == Errors(2, 0.0, 0.0)
    assert compared.document()["errors"] == {"makespan_s": 0.0, "mean_s": 0.0}
    assert compared.stages_learned is None, "there were fewer than 50 answers"


def comparison(real: float, simulated: float, mean: float = 1.0) -> Comparison:
    return Comparison(None, None, None, {"makespan_s": real, "mean_s": mean}, {"makespan_s": simulated, "mean_s": mean})


def test_the_order_of_policies_is_compared_by_ranks() -> None:
    alike = {"a": comparison(1.0, 10.0), "b": comparison(2.0, 11.0), "c": comparison(3.0, 90.0)}
    assert order(alike) == {"makespan_s": pytest.approx(1.0), "mean_s": None}
    turned = {"a": comparison(1.0, 3.0), "b": comparison(3.0, 1.0)}
    assert order(turned)["makespan_s"] == pytest.approx(-1.0)
    assert order({"a": comparison(1.0, 3.0)})["makespan_s"] is None
