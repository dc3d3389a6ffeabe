"""A plan that cannot be carried out is recognized."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.cluster import ClusterState, PlaceState, Residency
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.planner import Assignment, Plan, PlanConfig, Problem, Share
from airflow_fate.planner.fate import plan
from airflow_fate.planner.validate import violations
from airflow_fate.simulator.instances import ready_stages
from airflow_fate.workflow import StageRef
from tests.unit.planner.helpers import busy, by_id, fleet, model, one_stage

RUNS = [one_stage("a"), one_stage("b")]
FLEET = fleet(2, model(), model("large", weights_gb=20))
STATE = ClusterState(FLEET, {"gpu-0": PlaceState({"large": Residency("large")}, running=(busy(5.0, "large"),))})


PROBLEM = Problem(ready_stages(*RUNS), by_id(*RUNS), STATE, CostModel(), 0.0)


def bind(run: str, place: str, evict: tuple[tuple[str, str], ...] = (), prompts: int = 1) -> Assignment:
    return Assignment(StageRef(run, "only"), "small", (Share(place, prompts, CostParts()),), 0.0, 1.0, evict)


def violations_of(*assignments: Assignment, state: ClusterState = STATE) -> str:
    return "; ".join(violations(Plan(assignments), replace(PROBLEM, state=state)))


def test_good_plan_has_no_violations() -> None:
    assert violations(plan(PROBLEM, PlanConfig()), PROBLEM) == []


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ([bind("a", "gpu-1")], "b/only has no answer"),
        ([bind("a", "gpu-1"), bind("a", "gpu-0"), bind("b", "gpu-0")], "a/only has 2 answers"),
        ([bind("a", "gpu-1"), bind("b", "gpu-9")], "unknown place 'gpu-9'"),
        ([bind("a", "gpu-1"), bind("b", "gpu-1")], "would serve 2 of its 1 sequences"),
        ([bind("a", "gpu-1"), bind("b", "gpu-0")], "would serve 2 of its 1 sequences"),
        ([bind("a", "gpu-1", prompts=2), bind("b", "gpu-0")], "other than its 1 prompts"),
        ([bind("a", "gpu-1"), bind("b", "gpu-0", (("gpu-0", "large"),))], "where it is in use"),
        ([bind("a", "gpu-1", (("gpu-1", "large"),)), bind("b", "gpu-0")], "where it is not"),
    ],
)
def test_each_violation_is_named(assignments: list[Assignment], words: str) -> None:
    assert words in violations_of(*assignments)


def test_overfull_memory_is_named() -> None:
    state = replace(STATE, places={"gpu-0": PlaceState({"large": Residency("large")})})
    assert "gpu-0 would hold 28.0 GB of models in 24.0 GB" in violations_of(
        bind("a", "gpu-0"), bind("b", "gpu-1"), state=state
    )


def test_unusable_place_is_named() -> None:
    state = replace(STATE, places={"gpu-1": PlaceState(usable=False)})
    assert "gpu-1, which is not usable" in violations_of(bind("a", "gpu-1"), bind("b", "gpu-0"), state=state)
