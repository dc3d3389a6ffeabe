"""The policy that all ratios are given to, and how policies are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.cluster import ClusterState, PlaceState, Residency
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner import PlanConfig, Problem, policy
from airflow_fate.planner.baselines.round_robin import RoundRobin
from airflow_fate.planner.policies import Planner
from airflow_fate.planner.validate import violations
from airflow_fate.simulator.instances import random_instance, ready_stages
from tests.unit.planner.helpers import busy, by_id, fleet, model, one_stage, warm


def test_places_follow_each_other_across_plans() -> None:
    round_robin, state = RoundRobin(), warm(fleet(3))
    first = [one_stage(f"run-{n}") for n in range(2)]
    second = [one_stage(f"run-{n}") for n in range(2, 4)]
    plan = round_robin(Problem(ready_stages(*first), by_id(*first), state, CostModel(), 0.0), PlanConfig())
    assert [a.shares[0].place for a in plan.assignments] == ["gpu-0", "gpu-1"]
    plan = round_robin(Problem(ready_stages(*second), by_id(*second), state, CostModel(), 0.0), PlanConfig())
    assert [a.shares[0].place for a in plan.assignments] == ["gpu-2", "gpu-0"]


def test_queue_is_first_come_first_served() -> None:
    late, early = replace(one_stage("a"), arrival_s=5.0), replace(one_stage("b"), arrival_s=1.0)
    plan = RoundRobin()(
        Problem(ready_stages(late, early), by_id(late, early), warm(fleet(1)), CostModel(), 9.0), PlanConfig()
    )
    assert [a.ref.workflow for a in plan.assignments] == ["b"]
    assert [hold.ref.workflow for hold in plan.holds] == ["a"]


def test_busy_and_unfitting_places_are_passed_over() -> None:
    where = fleet(3, model(), model("large", weights_gb=20))
    small = replace(where.devices["gpu-1"], memory_bytes=10e9)
    where = replace(where, devices={**where.devices, "gpu-1": small})
    run = one_stage(model="large")
    state = ClusterState(where, {"gpu-0": PlaceState(running=(busy(5.0),))})
    plan = RoundRobin()(Problem(ready_stages(run), by_id(run), state, CostModel(), 0.0), PlanConfig())
    assert plan.assignments[0].shares[0].place == "gpu-2"


def test_least_recently_used_model_is_evicted() -> None:
    where = fleet(1, *(model(name, weights_gb=10) for name in ("old", "recent", "new")))
    resident = {"old": Residency("old", last_used_s=1), "recent": Residency("recent", last_used_s=2)}
    run = one_stage(model="new")
    state = ClusterState(where, {"gpu-0": PlaceState(resident)})
    plan = RoundRobin()(Problem(ready_stages(run), by_id(run), state, CostModel(), 3.0), PlanConfig())
    assert plan.assignments[0].evict == (("gpu-0", "old"),)


@pytest.mark.parametrize("seed", range(8))
def test_plan_can_be_carried_out(seed: int) -> None:
    problem = Problem(*random_instance(seed, 5, 30), CostModel(), 0.0)
    assert violations(RoundRobin()(problem, PlanConfig()), problem) == []


def test_policies_are_found_by_name() -> None:
    assert policy("eft") == Planner("eft")
    assert isinstance(policy("round_robin"), RoundRobin)
    with pytest.raises(ValueError, match="no policy 'best'; there are fate, round_robin, least_loaded"):
        policy("best")
