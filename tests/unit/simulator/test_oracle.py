"""The compiled kernel and the plain simulator agree, event by event, on whatever is decided."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings

from airflow_fate.cluster import Device, Fleet, ModelSpec, Node
from airflow_fate.physics.dynamics.event_loop import advance, begin_binding, bind_shard, settle
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.simulator.events import event_log
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.suites import find_scenarios
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow
from tests.oracle.replay import Ahead, Bind, Decision, Evict, Impossible, decisions, replay
from tests.unit.simulator.playing import begin, log_of, wandering_log
from tests.unit.simulator.same_log import differences
from tests.unit.simulator.worlds import RULES, SEEDS, instances

SCENARIOS = {
    "small": ("small-uniform", "small-mixed", "small-prefix"),
    "real-dag": ("high-groups", "burst-mixed-dear"),
    "prefix-reuse": ("high-deep",),
}
POLICIES = {
    "round_robin": {},
    "round_robin_push": {},
    "eft": {},
    "heft+": {},
    "next_use+": {},
    "fate": {"tries": 2.0, "every": 400.0},
}

many = settings(max_examples=50, deadline=None)


@cache
def built(suite: str, name: str) -> tuple[Workload, Fleet]:
    (scenario,) = find_scenarios(suite, name)
    return scenario.build(1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("suite", "name"),
    [
        pytest.param(suite, name, marks=pytest.mark.more if suite == "real-dag" else ())
        for suite, names in SCENARIOS.items()
        for name in names
    ],
)
def test_they_agree_on_the_suites(suite: str, name: str, policy: str) -> None:
    workload, fleet = built(suite, name)
    events = simulate(workload, fleet, policy, options=POLICIES[policy]).events
    assert differences(events, replay(workload, fleet, decisions(events))) == []


@many
@given(instances(distinct=True), RULES)
def test_they_agree_on_any_list_policy(instance: tuple[Workload, Fleet], rule: Rule) -> None:
    events = log_of(*instance, rule)
    assert differences(events, replay(*instance, decisions(events))) == []


@many
@given(instances(distinct=True), SEEDS)
def test_they_agree_on_random_decisions(instance: tuple[Workload, Fleet], seed: int) -> None:
    events = wandering_log(*instance, seed)
    assert differences(events, replay(*instance, decisions(events))) == []


MODEL = ModelSpec("m", 10e9, 1e9, 5e9, {"g": 100.0}, {"g": 10.0})
OTHER = replace(MODEL, name="o", weights_bytes=4e9)
DEVICE = Device("a", "n", "g", 12e9, 1000, 4)


def fleet_of(*devices: Device) -> Fleet:
    nodes = {name: Node(name, "", 8.0, 100e9) for name in ("n", "far")}
    return Fleet(nodes, {d.id: d for d in devices}, {"m": MODEL, "o": OTHER}, decode_slowdown=0.5, latency_s=0.25)


def workload_of(*stages: Stage, edges: tuple[tuple[str, str], ...] = (), output_tokens: int = 20) -> Workload:
    refs = {StageRef("w", stage.id): output_tokens for stage in stages if stage.is_llm}
    return Workload("counted by hand", (Workflow("w", {s.id: s for s in stages}, edges, arrival_s=1.0),), refs)


def bind(t_s: float, stage: str, place: str = "a", prompts: int = 1, shard: int = 0) -> Bind:
    return Bind(t_s, StageRef("w", stage), shard, place, prompts)


def times(events: list[dict[str, Any]], kind: str) -> list[tuple[float, float]]:
    return [(event["t"], event["seconds"]) for event in events if event["event"] == kind]


def test_loading_reading_and_writing_take_the_time_that_can_be_counted_by_hand() -> None:
    stage = Stage("one", model="m", prompt_tokens=500)
    events = replay(workload_of(stage), fleet_of(DEVICE), [bind(1.0, "one")])
    assert times(events, "load") == [(1.0, 10.0)]
    assert times(events, "prefill") == [(11.0, 5.0)]
    assert times(events, "decode") == [(16.0, 2.0)]
    assert [(e["t"], e["event"]) for e in events[-2:]] == [(18.0, "finish"), (18.0, "done")]


def test_two_sequences_slow_down_each_other_while_both_decode() -> None:
    stages = (Stage("one", model="m", prompt_tokens=100), Stage("two", model="m", prompt_tokens=100))
    events = replay(workload_of(*stages), fleet_of(DEVICE), [bind(1.0, "one"), bind(1.0, "two")])
    # From 13 to 14.5 the first writes its last ten tokens, the second its first ten, at two thirds of the speed.
    assert [t for decode in times(events, "decode") for t in decode] == pytest.approx([12.0, 2.5, 13.0, 2.5])


def test_a_prompt_and_those_who_decode_share_the_steps_where_these_are_limited() -> None:
    stages = (Stage("one", model="m", prompt_tokens=100), Stage("two", model="m", prompt_tokens=100))
    events = replay(
        workload_of(*stages), fleet_of(replace(DEVICE, batch_tokens=11)), [bind(1.0, "one"), bind(1.0, "two")]
    )
    # Beside the first, a step computes ten tokens of the other prompt in 0.1 s and decodes a token in 0.1 s.
    assert [t for prefill in times(events, "prefill") for t in prefill] == pytest.approx([11.0, 1.0, 12.0, 2.0])
    # The first has ten of its tokens then; with both, ten more take 1.5 s, and the other's last ten 1 s.
    assert [t for decode in times(events, "decode") for t in decode] == pytest.approx([12.0, 3.5, 14.0, 2.5])


def test_a_prompt_shorter_than_a_step_delays_those_who_decode_by_its_own_time() -> None:
    stages = (Stage("one", model="m", prompt_tokens=100), Stage("two", model="m", prompt_tokens=100))
    events = replay(
        workload_of(*stages), fleet_of(replace(DEVICE, batch_tokens=4096)), [bind(1.0, "one"), bind(1.0, "two")]
    )
    # One step of 1.1 s: the prompt, and one token of the first, which has nineteen left.
    assert [t for prefill in times(events, "prefill") for t in prefill] == pytest.approx([11.0, 1.0, 12.0, 1.1])
    assert times(events, "decode")[0] == pytest.approx((12.0, 1.1 + 1.5 * 1.9))


def test_context_slows_down_all_that_decode() -> None:
    model = replace(MODEL, decode_slowdown={"g": 0.25}, context_slowdown={"g": 2.0})
    fleet = replace(fleet_of(DEVICE), models={"m": model})
    (decode,) = times(
        replay(workload_of(Stage("one", model="m", prompt_tokens=490)), fleet, [bind(1, "one")]), "decode"
    )
    # 490 tokens of prompt and half of twenty of output: twice as slow as without context.
    assert decode == pytest.approx((1.0 + 10.0 + 4.9, 2.0 * (1.0 + 1.0)))


def test_a_batch_computes_once_what_its_prompts_share_and_never_what_is_cached() -> None:
    batch = Stage("one", model="m", prompts=3, prompt_tokens=300, prefix=(Segment("house", 200),))
    later = replace(batch, id="two", prompts=2)
    events = replay(
        workload_of(batch, later), fleet_of(DEVICE), [bind(1.0, "one", prompts=3), bind(1.0, "two", prompts=2)]
    )
    assert [(e["tokens"], e["cached"]) for e in events if e["event"] == "prefill"] == [(500, 0), (200, 200)]


def test_outputs_come_from_each_shard_on_another_node_and_none_from_tools() -> None:
    parent = Stage("one", model="m", prompts=2, prompt_tokens=100, output_bytes=2 * 10**9, max_shards=2)
    tool = Stage("tool", StageKind.TOOL, duration_s=1.0, output_bytes=10**9)
    child = Stage("two", model="m", prompt_tokens=100)
    workload = workload_of(parent, tool, child, edges=(("one", "two"), ("tool", "two")))
    fleet = fleet_of(DEVICE, replace(DEVICE, id="b", node="far"))
    decisions = [bind(1.0, "one"), bind(1.0, "one", "b", shard=1), bind(14.0, "two")]
    events = replay(workload, fleet, decisions)
    assert times(events, "transfer") == [(14.0, 1.25)]
    assert times(events, "prefill")[-1] == (15.25, 1.0)


def test_they_agree_where_a_model_comes_at_the_very_time_of_the_inputs() -> None:
    parent = Stage("one", model="o", prompt_tokens=100, output_bytes=2_750_000_000)
    loads = Stage("two", model="m", prompt_tokens=100)
    child = Stage("three", model="m", prompt_tokens=100)
    workload = workload_of(parent, loads, child, edges=(("one", "three"),))
    fleet = fleet_of(DEVICE, replace(DEVICE, id="b", node="far"))
    encoded = begin(workload, fleet)
    where = {StageRef("w", "one"): "a", StageRef("w", "two"): "b", StageRef("w", "three"): "b"}
    while advance(encoded.world):
        for stage in encoded.world.ready[: encoded.world.tally[0].ready].tolist():
            begin_binding(encoded.world, stage)
            bind_shard(encoded.world, stage, fleet.places.index(where[encoded.stages[stage]]), 1)
        settle(encoded.world)
    events = event_log(encoded)
    assert times(events, "load") == [(1.0, 4.0), (1.0, 10.0)]
    assert [(e["t"], e["seconds"]) for e in events if e["event"] == "transfer"] == [(8.0, 3.0)]
    assert differences(events, replay(workload, fleet, decisions(events))) == []


def test_a_model_that_comes_again_comes_from_the_nodes_memory() -> None:
    stages = tuple(Stage(name, model=model, prompt_tokens=100) for name, model in zip("abc", "mom", strict=True))
    decisions: list[Decision] = [
        *(bind(1.0, "a"), Evict(14.0, "a", "m"), bind(14.0, "b")),
        *(Evict(21.0, "a", "o"), Ahead(21.0, "a", "m", "prefetch"), bind(22.0, "c")),
    ]
    events = replay(workload_of(*stages), fleet_of(DEVICE), decisions)
    loads = [(e["t"], e["model"], e["seconds"], e["source"], e["why"]) for e in events if e["event"] == "load"]
    assert loads == [(1, "m", 10, "disk", "demand"), (14, "o", 4, "disk", "demand"), (21, "m", 2, "host", "prefetch")]


@pytest.mark.parametrize(
    "wrong",
    [
        [bind(0.5, "one")],
        [bind(1.0, "one"), bind(2.0, "one")],
        [Evict(1.0, "a", "m")],
        [bind(1.0, "one"), Evict(12.0, "a", "m")],
        [bind(1.0, "one"), Ahead(5.0, "a", "m", "prefetch")],
    ],
    ids=["before it is ready", "twice", "evicts nothing", "evicts what is used", "loads what is there"],
)
def test_what_physics_does_not_allow_is_not_done(wrong: list[Decision]) -> None:
    workload = workload_of(Stage("one", model="m", prompt_tokens=500))
    with pytest.raises(Impossible):
        replay(workload, fleet_of(DEVICE), wrong)


@pytest.mark.parametrize(
    "change",
    [{"t": 15.0}, {"seconds": 3.0}, {"device": "b"}, {"seconds": 2.00001}],
    ids=["time", "duration", "place", "a little"],
)
def test_a_difference_is_seen(change: dict[str, Any]) -> None:
    workload = workload_of(Stage("one", model="m", prompt_tokens=500))
    events = replay(workload, fleet_of(DEVICE), [bind(1.0, "one")])
    assert differences(events, list(reversed(events))) == []
    changed = [event | change if event["event"] == "decode" else event for event in events]
    assert differences(events, changed) != []
    assert differences(events, events[1:]) != []
