"""The optimum of small instances: found, proved, and a schedule that the simulator can follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from airflow_fate.bench.optimum import NotSmallError, find_optimum
from airflow_fate.bench.optimum.replay import Schedule, replay
from airflow_fate.cli.main import app
from airflow_fate.cluster import Device, Fleet, ModelSpec, Node
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.suites import find_scenarios
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow
from tests.unit.simulator.checker import violations

GB = 1e9
MODEL = ModelSpec("m", 10 * GB, 1 * GB, 5 * GB, {"slow": 100.0, "fast": 250.0}, {"slow": 10.0, "fast": 25.0})
DEVICE = Device("a", "n", "slow", 12 * GB, 10_000, 1)


def fleet_of(*devices: Device) -> Fleet:
    nodes = {name: Node(name, "", 1.0, 100 * GB) for name in ("n", "far")}
    models = {"m": MODEL, "o": replace(MODEL, name="o", weights_bytes=7 * GB)}
    return Fleet(nodes, {device.id: device for device in devices}, models)


def workload_of(*workflows: Workflow) -> Workload:
    """All write 50 tokens."""
    outputs = {StageRef(w.id, stage): 50 for w in workflows for stage in w.stages}
    return Workload("small", workflows, outputs)


def workflow_of(name: str, *stages: Stage, edges: tuple[tuple[str, str], ...] = (), arrival_s: float = 0.0) -> Workflow:
    return Workflow(name, {stage.id: stage for stage in stages}, edges, arrival_s)


def makespan_s(events: list[dict[str, Any]]) -> float:
    return max(float(event["t"]) for event in events if event["event"] == "finish")


def every_schedule(workload: Workload, devices: tuple[str, ...]) -> Iterator[Schedule]:
    refs = list(workload.output_tokens)
    for order in permutations(refs):
        for places in product(devices, repeat=len(refs)):
            yield {d: [ref for ref, place in zip(order, places, strict=True) if place == d] for d in devices}


def test_a_lone_stage_ends_when_its_load_prefill_and_decode_have() -> None:
    workload = workload_of(workflow_of("w", Stage("one", model="m", prompt_tokens=500)))
    optimum = find_optimum(workload, fleet_of(DEVICE, replace(DEVICE, id="b", gpu="fast")))
    assert optimum.makespan_s == pytest.approx(10.0 + 2.0 + 2.0)
    assert optimum.status == "OPTIMAL"
    assert {device: visits for device, visits in optimum.schedule.items() if visits} == {"b": [StageRef("w", "one")]}


def test_a_model_is_loaded_before_anybody_can_ask_for_it() -> None:
    early, late = Stage("one", model="m", prompt_tokens=500), Stage("late", model="o", prompt_tokens=100)
    workload = workload_of(workflow_of("w", early), workflow_of("x", late, arrival_s=30.0))
    optimum = find_optimum(workload, fleet_of(DEVICE))
    assert optimum.makespan_s == pytest.approx(30.0 + 1.0 + 5.0)
    assert optimum.status == "OPTIMAL"


def test_no_schedule_at_all_is_better_than_the_optimum() -> None:
    text = (Segment("text", 300),)
    workload = workload_of(
        workflow_of(
            "w",
            Stage("one", model="m", prompt_tokens=400, prefix=text, output_bytes=10**9),
            Stage("two", model="m", prompt_tokens=350, prefix=text),
            Stage("three", model="o", prompt_tokens=600),
            edges=(("one", "two"), ("one", "three")),
        ),
        workflow_of("x", Stage("four", model="o", prompt_tokens=500), arrival_s=3.0),
    )
    fleet = fleet_of(DEVICE, replace(DEVICE, id="b", node="far", gpu="fast"))
    makespans_s = []
    for schedule in every_schedule(workload, tuple(fleet.devices)):
        try:
            makespans_s.append(makespan_s(replay(workload, fleet, schedule)))
        except ValueError:
            continue
    optimum = find_optimum(workload, fleet)
    assert optimum.status == "OPTIMAL"
    assert optimum.makespan_s == pytest.approx(min(makespans_s))


@pytest.mark.parametrize("name", ["small-uniform", "small-mixed", "small-prefix"])
def test_what_is_found_obeys_the_physics_and_nobody_is_below_the_bound(name: str) -> None:
    workload, fleet = find_scenarios("small", name)[0].build(1)
    optimum = find_optimum(workload, fleet, limit_s=1.0)
    events = replay(workload, fleet, optimum.schedule)
    assert violations(workload, fleet, events) == []
    assert makespan_s(events) == pytest.approx(optimum.makespan_s)
    for policy in ("round_robin", "eft", "heft+", "next_use+", "critical_path"):
        reached_s = simulate(workload, fleet, policy).summary["makespan_s"]
        assert optimum.bound_s <= optimum.makespan_s <= reached_s + 1e-6


TOO_MUCH: dict[str, tuple[Stage, Device]] = {
    "one prompt": (Stage("one", model="m", prompts=2), DEVICE),
    "kind llm": (Stage("one", StageKind.TOOL), DEVICE),
    "max_seqs 1": (Stage("one", model="m"), replace(DEVICE, max_seqs=2)),
    "room for one model": (Stage("one", model="m"), replace(DEVICE, memory_bytes=20 * GB)),
    "a model that fits everywhere": (Stage("one", model="m"), replace(DEVICE, memory_bytes=8 * GB)),
}


@pytest.mark.parametrize("message", TOO_MUCH)
def test_other_instances_are_refused_with_what_is_too_much(message: str) -> None:
    stage, device = TOO_MUCH[message]
    with pytest.raises(NotSmallError, match=message):
        find_optimum(workload_of(workflow_of("w", stage)), fleet_of(device))


def test_the_command_tells_each_policys_gap(tmp_path: Path) -> None:
    arguments = [
        "--scenario",
        "small-uniform",
        "--seeds",
        "1",
        "--limit",
        "1",
        "--policy",
        "eft",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(app, ["bench", "optimum", *arguments, "--output", "json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (instance,) = document["instances"]
    makespan_s = instance["makespans_s"]["eft"]
    assert instance["bound_s"] <= instance["optimum_s"] <= makespan_s
    assert document["median"]["eft"]["over_optimum"] == pytest.approx(makespan_s / instance["optimum_s"] - 1)
    assert json.loads((tmp_path / "optimum.json").read_text()) == document
