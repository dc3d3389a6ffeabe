"""The kernel's physics, whatever the work, the fleet and the policy: only what is there is used, and all gets done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.planner.dispatch.rule import CYCLIC, Rule, make_rule
from airflow_fate.planner.registry import NAMES
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow
from tests.unit.simulator.checked_log import Log
from tests.unit.simulator.checked_places import check_groups
from tests.unit.simulator.checker import violations
from tests.unit.simulator.invariants import check_end, check_world
from tests.unit.simulator.playing import begin, follow, log_of, wander, wandering_log
from tests.unit.simulator.worlds import PUSHING, RULES, SEEDS, instances

Instance = tuple[Workload, Fleet]
Event = dict[str, Any]

some = settings(max_examples=30, deadline=None)
many = settings(max_examples=40, deadline=None)


@some
@given(instances(), RULES)
def test_under_any_list_policy_the_world_is_sound_at_every_epoch_and_all_gets_done(
    instance: Instance, rule: Rule
) -> None:
    world = begin(*instance).world
    for _ in follow(world, rule):
        check_world(world)
    check_end(world)


@some
@given(instances(), SEEDS)
def test_under_random_decisions_the_world_is_sound_at_every_epoch_and_all_gets_done(
    instance: Instance, seed: int
) -> None:
    world = begin(*instance).world
    for _ in wander(world, seed):
        check_world(world)
    check_end(world)


@some
@given(instances(grouped=True), PUSHING)
def test_what_is_pushed_onto_groups_and_their_members_gets_done(instance: Instance, rule: Rule) -> None:
    world = begin(*instance).world
    for _ in follow(world, rule):
        check_world(world)
    check_end(world)


@many
@given(instances(), RULES)
def test_logs_of_list_policies_obey_the_physics(instance: Instance, rule: Rule) -> None:
    assert violations(*instance, log_of(*instance, rule)) == []


@many
@given(instances(), SEEDS)
def test_logs_of_random_decisions_obey_the_physics(instance: Instance, seed: int) -> None:
    assert violations(*instance, wandering_log(*instance, seed)) == []


@many
@given(instances(), st.sampled_from(NAMES))
def test_logs_of_the_policies_that_have_a_name_obey_the_physics_and_no_bound_is_beaten(
    instance: Instance, policy: str
) -> None:
    run = simulate(*instance, policy, options={"tries": 1.0, "every": 3.0} if policy == "fate" else {})
    assert violations(*instance, run.events) == []
    assert run.summary["lower_bound_s"] <= run.summary["makespan_s"] * (1 + 1e-9)
    for figure in ("mean", "p95"):
        assert run.mechanism[f"{figure}_bound_s"] <= run.summary[f"{figure}_s"] * (1 + 1e-9)


def crowded() -> Instance:
    """A batch, a tool and a conversation twice, a model for two devices, and memory for one model on each."""
    house = (Segment("house", 200), Segment("desk", 100))
    stages = (
        Stage("ask", model="m", prompts=3, prompt_tokens=500, prefix=house, output_bytes=10**8, max_shards=2),
        Stage("search", StageKind.TOOL, duration_s=2.0, output_bytes=10**6),
        Stage("answer", model="m", prompt_tokens=900, continues="ask", output_bytes=10**8),
        Stage("judge", model="w", prompt_tokens=300, output_bytes=10**8),
        Stage("list", model="o", prompts=5, prompt_tokens=400, prefix=house),
    )
    edges = (("ask", "search"), ("ask", "answer"), ("search", "answer"), ("answer", "judge"), ("ask", "list"))
    workflows = tuple(
        Workflow(name, {stage.id: stage for stage in stages}, edges, arrival_s)
        for name, arrival_s in (("one", 0.0), ("two", 1.0), ("three", 40.0))
    )
    output_tokens = {StageRef(w.id, stage.id): 100 for w in workflows for stage in stages if stage.is_llm}
    model = ModelSpec("m", 10e9, 2e9, 5e9, {"g": 400.0}, {"g": 30.0})
    devices = {name: Device(name, f"node-{name < 'c'}", "g", 12e9, 2000, 4) for name in "abcd"}
    fleet = Fleet(
        {name: Node(name, "", 2.0, 60e9) for name in ("node-True", "node-False")},
        devices,
        {"m": model, "o": replace(model, name="o"), "w": replace(model, name="w", weights_bytes=20e9, group_size=2)},
        {"pair": DeviceGroup("pair", ("a", "b"))},
    )
    return Workload("crowded", workflows, output_tokens), fleet


def crowded_log() -> list[Event]:
    return log_of(*crowded(), make_rule(by_ready=1, place=CYCLIC, push=1))


def first(events: list[Event], kind: str, **fields: Any) -> Event:
    return next(e for e in events if e["event"] == kind and all(e[name] == fields[name] for name in fields))


def test_the_planted_log_is_sound_and_has_all_there_is() -> None:
    events = crowded_log()
    assert violations(*crowded(), events) == []
    kinds = {"arrive", "done", "ready", "finish", "tool", "bind", "load", "evict", "transfer", "prefill", "decode"}
    assert {event["event"] for event in events} == kinds
    assert any(e["cached"] for e in events if e["event"] == "prefill" and e["stage"] == "answer")
    assert first(events, "load", source="host")
    assert first(events, "prefill", device="pair")


CHANGES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # what the checker says: the event, which one, what is changed
    "finishes at": ("finish", {"stage": "search"}, {"t": 3.0}),
    "starts before its parents end": ("bind", {"stage": "judge"}, {"t": 1.0}),
    "becomes ready": ("ready", {"stage": "answer"}, {"t": 2.0}),
    "arrives at another time": ("arrive", {"workflow": "two"}, {"t": 1.5}),
    "done at another time": ("done", {}, {"t": 70.0}),
    "a tool that takes another time": ("tool", {}, {"seconds": 1.0}),
    "no number": ("load", {}, {"seconds": float("nan")}),
    "not all prompts are bound": ("bind", {"stage": "list"}, {"prompts": 4}),
    "a place that can't hold its model": ("bind", {"stage": "judge"}, {"device": "a"}),
    "changes its place": ("decode", {}, {"device": "d"}),
    "runs another model": ("bind", {"stage": "judge"}, {"model": "m"}),
    "not one after the other": ("decode", {}, {"t": 6.0}),
    "comes from the": ("load", {}, {"source": "host"}),
    "a load that takes another time": ("load", {}, {"seconds": 4.9}),
    "moves at another time": ("transfer", {}, {"seconds": 0.1}),
    "came for": ("transfer", {}, {"parent": "search"}),
    "moves for nobody": ("transfer", {}, {"shard": 7}),
    "no such leading segments": ("prefill", {"cached": 0.0}, {"cached": 17.0}),
    "was never computed there": ("prefill", {"cached": 0.0, "stage": "list"}, {"cached": 300.0, "tokens": 500.0}),
    "tokens must be computed": ("prefill", {"stage": "list"}, {"tokens": 600.0}),
    "a prefill that takes another time": ("prefill", {"stage": "list"}, {"seconds": 1.7}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_changed_event_is_a_violation(message: str) -> None:
    kind, which, change = CHANGES[message]
    events = crowded_log()
    first(events, kind, **which).update(change)
    assert message in str(violations(*crowded(), sorted(events, key=lambda event: event["t"])))


@pytest.mark.parametrize("kind", ["arrive", "done", "ready", "finish", "tool", "prefill", "decode", "transfer", "load"])
def test_an_event_that_is_missing_or_there_twice_is_a_violation(kind: str) -> None:
    events = crowded_log()
    at = events.index(first(events, kind))
    assert violations(*crowded(), events[:at] + events[at + 1 :])
    assert violations(*crowded(), events[: at + 1] + events[at:])


def test_events_that_are_not_in_the_order_of_time_are_a_violation() -> None:
    assert "out of order" in str(violations(*crowded(), crowded_log()[::-1]))


def test_an_eviction_of_a_model_in_use_is_a_violation() -> None:
    events = crowded_log()
    used = first(events, "decode")
    gone = {"t": used["t"] + used["seconds"] / 2, "event": "evict", "device": used["device"], "model": used["model"]}
    broken = violations(*crowded(), sorted([*events, gone], key=lambda event: event["t"]))
    assert "its model is not there" in str(broken)


def test_two_models_where_only_one_fits_are_a_violation() -> None:
    events = crowded_log()
    used = first(events, "decode")
    load = {"seconds": 5.0, "source": "disk", "why": "prefetch"}
    more = {"t": used["t"], "event": "load", "device": used["device"], "model": "o", **load}
    broken = violations(*crowded(), sorted([*events, more], key=lambda event: event["t"]))
    assert "bytes on" in str(broken)


def test_two_shards_on_one_place_are_a_violation() -> None:
    events = crowded_log()
    first(events, "bind", stage="ask")["prompts"] = 2
    again = [e | {"shard": 1} for e in events if (e["event"], e.get("workflow"), e.get("stage")) in PARTS]
    again[0]["prompts"] = 1
    broken = violations(*crowded(), sorted([*events, *again], key=lambda event: event["t"]))
    assert "two on one place" in str(broken)


PARTS = {(kind, "one", "ask") for kind in ("bind", "prefill", "decode")}

LIES: dict[str, dict[str, Any]] = {
    # what the checker says, when it is told of devices other than those that the log is from
    "more cached than there is room for": {"kv_tokens": 250},
    "sequences on": {"max_seqs": 1},
}


@pytest.mark.parametrize("message", LIES)
def test_a_device_that_holds_more_than_it_can_is_a_violation(message: str) -> None:
    workload, fleet = crowded()
    smaller = {name: replace(device, **LIES[message]) for name, device in fleet.devices.items()}
    assert message in str(violations(workload, replace(fleet, devices=smaller), crowded_log()))


def test_a_group_whose_members_do_something_else_is_a_violation() -> None:
    events = crowded_log()
    for event in events:
        if event["event"] in ("prefill", "decode") and event["device"] == "pair":
            event["t"] -= 10.0
    assert "at once" in str(list(check_groups(Log(*crowded(), events))))


def test_a_decode_faster_than_its_company_allows_is_a_violation() -> None:
    workload, fleet = crowded()
    assert "time for" in str(violations(workload, replace(fleet, decode_slowdown=0.1), crowded_log()))
