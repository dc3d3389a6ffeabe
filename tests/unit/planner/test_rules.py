"""What the fields of a rule do to who runs where, on fleets small enough to see why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_fate.cluster import Fleet
from airflow_fate.planner.dispatch.rule import Rule, changed, make_rule
from airflow_fate.planner.search.portfolio import GREEDY
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Stage, StageKind, Workflow
from tests.unit.planner.helpers import apart, fleet, one_stage
from tests.unit.simulator.playing import log_of

EARLIEST = make_rule(by_arrival=1, waits=1, reserve=1, backfill=1, depth=2.0)

Spans = dict[str, dict[str, Any]]
"""Event -> workflow -> the event."""


def _played(workflows: list[Workflow], where: Fleet, by: Rule) -> Spans:
    spans: Spans = {}
    for event in log_of(Workload("lists", tuple(workflows), {}), where, by):
        if "workflow" in event:
            spans.setdefault(event["event"], {})[event["workflow"]] = event
    return spans


def _end_s(event: dict[str, Any]) -> float:
    return float(event["t"] + event["seconds"])


def _two() -> list[Workflow]:
    return [one_stage(name, expected_output_tokens=400) for name in ("first", "second")]


def test_a_prompt_is_computed_while_those_decode_whose_slot_it_takes() -> None:
    spans = _played(_two(), fleet(1), changed(EARLIEST, overlap=1.0))
    first_s = _end_s(spans["decode"]["first"])
    assert _end_s(spans["prefill"]["second"]) < first_s
    assert spans["decode"]["second"]["t"] == pytest.approx(first_s)


def test_it_is_not_bound_longer_before_than_the_rule_says() -> None:
    spans = _played(_two(), fleet(1), changed(EARLIEST, overlap=0.05))
    own_s = 1000 / 800 + 400 / 40
    assert spans["bind"]["second"]["t"] >= _end_s(spans["decode"]["first"]) - 0.05 * own_s - 1e-9


def test_without_that_it_waits_for_its_slot() -> None:
    spans = _played(_two(), fleet(1), EARLIEST)
    assert spans["prefill"]["second"]["t"] == pytest.approx(_end_s(spans["decode"]["first"]))


def test_nobody_is_computed_before_a_more_urgent_stage_whose_inputs_are_on_their_way() -> None:
    parent_s = 8 + 12_000 / 2400 + 40 / 100
    parent = one_stage(model="there", prompt_tokens=12_000, output_bytes=1e6).stages["only"]
    child = one_stage().stages["only"]
    workflows = [
        one_stage("warm"),
        Workflow("chain", {"parent": parent, "only": child}, (("parent", "only"),)),
        Workflow("other", one_stage("other", prompt_tokens=8000).stages, arrival_s=parent_s),
    ]
    spans = _played(workflows, apart(), EARLIEST)
    assert spans["prefill"]["chain"]["t"] == pytest.approx(parent_s, abs=0.1)
    assert spans["prefill"]["other"]["t"] == pytest.approx(_end_s(spans["prefill"]["chain"]))


@pytest.mark.parametrize(("busy_period", "beside"), [(0.0, "short"), (0.5, "long")])
def test_a_stage_joins_the_place_that_is_busy_for_longer_anyway(busy_period: float, beside: str) -> None:
    workflows = [
        one_stage("short", expected_output_tokens=800),
        one_stage("long", expected_output_tokens=8000),
        Workflow("late", one_stage("late", expected_output_tokens=2000).stages, arrival_s=15.0),
    ]
    spans = _played(workflows, fleet(2, max_seqs=2), changed(EARLIEST, busy_period=busy_period))
    assert spans["bind"]["late"]["device"] == spans["bind"][beside]["device"]


@pytest.mark.parametrize(("yielding", "on_slow"), [(0.0, 1), (4.0, 2)])
def test_a_stage_leaves_a_busy_place_to_those_behind_it(yielding: float, on_slow: int) -> None:
    workflows = [
        one_stage(f"run-{n}", prompt_tokens=4000, expected_output_tokens=20 + 400 * (n == 5)) for n in range(6)
    ]
    spans = _played(workflows, fleet(2, gpus="fast slow"), changed(EARLIEST, yielding=yielding))
    assert sum(event["device"] == "gpu-1" for event in spans["bind"].values()) == on_slow


def _after_tool(expected_output_tokens: int) -> Workflow:
    """A call that is ready after thirty seconds."""
    call = one_stage(expected_output_tokens=expected_output_tokens).stages["only"]
    return Workflow(
        "chain", {"tool": Stage("tool", StageKind.TOOL, duration_s=30.0), "only": call}, (("tool", "only"),)
    )


@pytest.mark.parametrize(("lookahead", "waits"), [(0.0, "chain"), (0.3, "other")])
def test_a_longer_chain_that_is_ready_soon_finds_its_place_free(lookahead: float, waits: str) -> None:
    workflows = [
        one_stage("warm"),
        _after_tool(3000),
        Workflow("other", one_stage("other", expected_output_tokens=2000).stages, arrival_s=28.0),
    ]
    by = changed(EARLIEST, by_arrival=0.0, by_rank=1.0, lookahead=lookahead)
    ends_s = {name: done["t"] for name, done in _played(workflows, fleet(1, gpus="fast"), by)["done"].items()}
    assert max(ends_s, key=lambda name: ends_s[name]) == waits


def _slower(by: float) -> Fleet:
    """One fast and one slow device on a node, and a model, all of them slower by this factor."""
    where = fleet(2, gpus="fast slow", max_seqs=2)
    spec = where.models["small"]
    slow = replace(
        spec,
        disk_bytes_per_s=spec.disk_bytes_per_s / by,
        host_bytes_per_s=spec.host_bytes_per_s / by,
        prefill_tps={gpu: tps / by for gpu, tps in spec.prefill_tps.items()},
        decode_tps={gpu: tps / by for gpu, tps in spec.decode_tps.items()},
    )
    return replace(where, models={"small": slow})


@pytest.mark.parametrize("objective", GREEDY)
def test_a_rule_does_the_same_where_everything_takes_twenty_times_as_long(objective: str) -> None:
    def bound(by: float) -> list[tuple[str, str]]:
        workflows = [
            replace(
                one_stage(f"run-{n:02d}", prompt_tokens=200 + 700 * (n % 5), expected_output_tokens=20 + 90 * (n % 7)),
                arrival_s=0.8 * by * n,
            )
            for n in range(24)
        ]
        return [
            (run, event["device"]) for run, event in _played(workflows, _slower(by), GREEDY[objective])["bind"].items()
        ]

    assert bound(20.0) == bound(1.0)
