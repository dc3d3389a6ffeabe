"""The standard suites: equal for equal seeds, valid, and what their names promise."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.files import read_inputs, write_fleet, write_workload
from airflow_fate.simulator.suites import STANDARD, SUITES, Scenario, find_scenarios
from airflow_fate.simulator.suites.traces import BLOCK_TOKENS, azure, mooncake
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Stage, StageRef

EVERY = [scenario for suite in SUITES.values() for scenario in suite]

_DIGEST = """
import hashlib
from airflow_fate.simulator.suites import find_scenarios
(scenario,) = find_scenarios("real-dag", "light-mixed")
print(hashlib.sha256(repr(scenario.build(3)).encode()).hexdigest())
"""


@cache
def built(scenario: Scenario) -> tuple[Workload, Fleet]:
    """Once for all tests: making one takes up to a second."""
    return scenario.build(0)


def llm_stages(scenario: Scenario) -> list[Stage]:
    workload, _ = built(scenario)
    return [stage for workflow in workload.workflows for stage in workflow.stages.values() if stage.is_llm]


@pytest.mark.parametrize("scenario", EVERY, ids=lambda scenario: f"{scenario.suite}/{scenario.name}")
def test_a_scenario_is_a_valid_pair_of_files(tmp_path: Path, scenario: Scenario) -> None:
    workload, fleet = built(scenario)
    write_workload(tmp_path / "W.json", workload)
    write_fleet(tmp_path / "F.json", fleet)
    read, where = read_inputs(tmp_path / "W.json", tmp_path / "F.json")
    assert read == workload
    assert where.places == fleet.places


def test_a_seed_decides_everything_in_every_process() -> None:
    (scenario,) = find_scenarios("real-dag", "light-mixed")
    here = hashlib.sha256(repr(scenario.build(3)).encode()).hexdigest()
    elsewhere = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == here
    assert scenario.build(4) != scenario.build(3)


@pytest.mark.parametrize("suite", STANDARD)
def test_the_standard_suites_have_a_realistic_size(suite: str) -> None:
    for scenario in SUITES[suite]:
        workload, fleet = built(scenario)
        assert 60 <= len(workload.workflows) <= 200
        assert 300 <= sum(len(workflow.stages) for workflow in workload.workflows) <= 1700
        assert 8 <= len(fleet.devices) <= 32
        assert 4 <= len(fleet.models) <= 8


def test_burst_arrives_at_nearly_once_and_light_load_spreads() -> None:
    last = {}
    for name in ("burst-mixed", "light-mixed"):
        (scenario,) = find_scenarios("real-dag", name)
        last[name] = max(workflow.arrival_s for workflow in built(scenario)[0].workflows)
    assert last["burst-mixed"] <= 2
    assert last["light-mixed"] > 100


def test_expected_outputs_are_off_by_more_where_the_name_says_so() -> None:
    def error(name: str) -> float:
        (scenario,) = find_scenarios("real-dag", name)
        workload, _ = built(scenario)
        ratios = [
            workload.output_tokens[StageRef(workflow.id, stage.id)] / stage.expected_output_tokens
            for workflow in workload.workflows
            for stage in workflow.stages.values()
            if stage.is_llm
        ]
        return sum(max(ratio, 1 / max(ratio, 1e-9)) for ratio in ratios) / len(ratios)

    assert error("high-bad-estimates") > 1.5 * error("high-mixed")


def test_real_dags_have_batches_conversations_tools_and_groups() -> None:
    (scenario,) = find_scenarios("real-dag", "high-groups")
    workload, fleet = built(scenario)
    stages = [stage for workflow in workload.workflows for stage in workflow.stages.values()]
    assert any(stage.prompts > 1 and stage.max_shards > 1 for stage in stages)
    assert any(stage.continues for stage in stages)
    assert any(not stage.is_llm for stage in stages)
    assert any(fleet.models[stage.model].group_size == 2 for stage in stages if stage.is_llm)


@pytest.mark.parametrize("percent", [0, 30, 60, 90])
def test_the_share_of_reuse_is_the_one_in_the_name(percent: int) -> None:
    (scenario,) = find_scenarios("prefix-reuse", f"high-reuse-{percent:02d}")
    stages = llm_stages(scenario)
    shared = sum(segment.tokens for stage in stages for segment in stage.prefix)
    assert shared / sum(stage.prompt_tokens for stage in stages) == pytest.approx(percent / 100, abs=0.03)


def test_tenants_share_no_text() -> None:
    (scenario,) = find_scenarios("prefix-reuse", "moderate-many-tenants")
    workload, _ = built(scenario)
    owners: dict[str, set[str]] = {}
    for workflow in workload.workflows:
        for stage in workflow.stages.values():
            for segment in stage.prefix:
                owners.setdefault(segment.key, set()).add(workflow.tenant)
    assert len(owners) > 16
    assert all(len(tenants) == 1 for tenants in owners.values())


def test_equal_segments_are_equally_long() -> None:
    for scenario in (*find_scenarios("prefix-reuse"), *find_scenarios("real-dag", "high-mixed")):
        lengths: dict[str, int] = {}
        for stage in llm_stages(scenario):
            for segment in stage.prefix:
                assert lengths.setdefault(segment.key, segment.tokens) == segment.tokens


def test_small_instances_are_small_enough_for_the_optimum() -> None:
    for scenario in SUITES["small"]:
        for seed in range(5):
            workload, fleet = scenario.build(seed)
            assert sum(len(workflow.stages) for workflow in workload.workflows) <= 20
            assert len(fleet.devices) == 4
            assert 2 <= len(fleet.models) <= 3


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="there are real-dag, prefix-reuse, small and all"):
        find_scenarios("nothing")
    with pytest.raises(ValueError, match="there are burst-uniform, "):
        find_scenarios("real-dag", "nothing")


def test_the_traces_are_there_whole() -> None:
    assert len(azure()) == 19366
    assert len(mooncake()) == 12031
    for request in mooncake()[:200]:
        blocks = sum(count for _, count in request.blocks)
        assert (blocks - 1) * BLOCK_TOKENS < request.prompt_tokens <= blocks * BLOCK_TOKENS
