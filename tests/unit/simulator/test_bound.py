"""Bounds that can be counted by hand; that no policy beats them is tested with the physics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.simulator.bound import lower_bounds
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.suites import STANDARD, SUITES
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

MODEL = ModelSpec("m", 10e9, 1e9, 5e9, {"g": 100.0, "fast": 400.0}, {"g": 10.0, "fast": 40.0})
DEVICE = Device("a", "n", "g", 12e9, 10_000, 1)
READ_S = 10.0
STAGE = Stage("one", model="m", prompt_tokens=200)


def fleet_of(*devices: Device, slowdown: float = 0.0) -> Fleet:
    return Fleet({"n": Node("n", "", 8.0)}, {d.id: d for d in devices}, {"m": MODEL}, decode_slowdown=slowdown)


def one_by_one(*stages: Stage, arrivals_s: tuple[float, ...] = (), output_tokens: int = 20) -> Workload:
    """A workflow for each stage."""
    workflows = tuple(
        Workflow(stage.id, {stage.id: stage}, (), arrival_s)
        for stage, arrival_s in zip(stages, arrivals_s or (0.0,) * len(stages), strict=True)
    )
    return Workload("by hand", workflows, {StageRef(stage.id, stage.id): output_tokens for stage in stages})


def test_one_stage_reads_its_model_computes_and_writes_where_that_is_fastest() -> None:
    bounds = lower_bounds(one_by_one(STAGE), fleet_of(DEVICE, replace(DEVICE, id="b", gpu="fast")))
    assert bounds.makespan_s == bounds.mean_s == bounds.p95_s == pytest.approx(READ_S + 200 / 400 + 20 / 40)


def test_a_chain_takes_as_long_as_all_of_it() -> None:
    tool = Stage("tool", StageKind.TOOL, duration_s=3.0)
    stages = {"one": STAGE, "tool": tool, "two": replace(STAGE, id="two", continues="one", prompt_tokens=250)}
    workflow = Workflow("w", stages, (("one", "tool"), ("one", "two"), ("tool", "two")), 5.0)
    workload = Workload("by hand", (workflow,), {StageRef("w", "one"): 20, StageRef("w", "two"): 20})
    # Two computes 30 tokens beyond the 220 of the conversation.
    expected_s = READ_S + 2.0 + 2.0 + 3.0 + 0.3 + 2.0
    bounds = lower_bounds(workload, fleet_of(DEVICE))
    assert (bounds.makespan_s, bounds.mean_s) == pytest.approx((5.0 + expected_s, expected_s))


def test_the_last_to_arrive_ends_after_its_arrival_and_the_mean_knows_each_workflow() -> None:
    workload = one_by_one(STAGE, replace(STAGE, id="two"), arrivals_s=(0.0, 100.0))
    bounds = lower_bounds(workload, fleet_of(DEVICE))
    assert (bounds.makespan_s, bounds.mean_s, bounds.p95_s) == pytest.approx((104.0, (14.0 + 4.0) / 2, 14.0))


def test_slots_are_shared_by_all_that_must_be_written() -> None:
    stages = [replace(STAGE, id=name, prompt_tokens=1) for name in "abcdef"]
    lone = lower_bounds(one_by_one(*stages), fleet_of(DEVICE, replace(DEVICE, id="b")))
    assert lone.makespan_s == pytest.approx(READ_S + 6 * 2.0 / 2)
    # Two at once are each slowed down by half: together 4/3 as fast.
    two = fleet_of(replace(DEVICE, max_seqs=2), slowdown=0.5)
    assert lower_bounds(one_by_one(*stages), two).makespan_s == pytest.approx(READ_S + 6 * 2.0 * 3 / 4)


def test_work_is_shared_out_by_speed() -> None:
    stages = [replace(STAGE, id=name, prompt_tokens=1000) for name in "abcde"]
    fleet = fleet_of(DEVICE, replace(DEVICE, id="b", gpu="fast"))
    # 5,000 tokens over 100 and 400 tokens a second.
    assert lower_bounds(one_by_one(*stages, output_tokens=0), fleet).makespan_s == pytest.approx(READ_S + 10.0)


def test_what_prompts_share_is_computed_once() -> None:
    stages = [replace(STAGE, id=name, prompt_tokens=1000, prefix=(Segment("house", 900),)) for name in "abcde"]
    bounds = lower_bounds(one_by_one(*stages, output_tokens=0), fleet_of(DEVICE))
    assert bounds.makespan_s == pytest.approx(READ_S + 9.0 + 5 * 1.0)
    batch = replace(STAGE, prompts=5, prompt_tokens=1000, prefix=(Segment("house", 900),))
    bounds = lower_bounds(one_by_one(batch, output_tokens=0), fleet_of(DEVICE))
    assert bounds.makespan_s == pytest.approx(READ_S + 9.0 + 5 * 1.0)


def test_a_group_takes_the_time_of_all_its_devices() -> None:
    wide = replace(MODEL, name="w", group_size=2)
    fleet = replace(
        fleet_of(DEVICE, replace(DEVICE, id="b")),
        models={"m": MODEL, "w": wide},
        groups={"pair": DeviceGroup("pair", ("a", "b"))},
    )
    stages = [replace(STAGE, id="a", prompt_tokens=1000), replace(STAGE, id="b", model="w", prompt_tokens=1000)]
    # Reading half of the weights takes 5 s; then 10 s of one device and 10 s of both.
    assert lower_bounds(one_by_one(*stages, output_tokens=0), fleet).makespan_s == pytest.approx(
        max(READ_S + 10.0, 5.0 + 15.0)
    )


def test_the_bound_is_what_a_lone_device_reaches() -> None:
    stages = [replace(STAGE, id=name, prompt_tokens=1) for name in "abcd"]
    summary = simulate(one_by_one(*stages, output_tokens=30), fleet_of(DEVICE), "round_robin").summary
    assert summary["makespan_s"] == pytest.approx(summary["lower_bound_s"], rel=2e-3)


@pytest.mark.more
@pytest.mark.parametrize(
    "scenario", [scenario for suite in STANDARD for scenario in SUITES[suite]], ids=lambda scenario: scenario.name
)
def test_no_policy_beats_the_bound_of_a_standard_scenario(scenario: object) -> None:
    workload, fleet = scenario.build(0)  # type: ignore[attr-defined]
    for policy in ("eft", "next_use+"):
        run = simulate(workload, fleet, policy)
        assert run.summary["lower_bound_s"] <= run.summary["makespan_s"]
        assert run.mechanism["mean_bound_s"] <= run.summary["mean_s"]
        assert run.mechanism["p95_bound_s"] <= run.summary["p95_s"]
