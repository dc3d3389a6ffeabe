"""What one place costs, and what a placement leaves behind for the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.cluster import (
    CachedSegment,
    ClusterState,
    Device,
    DeviceGroup,
    Fleet,
    ModelSpec,
    Node,
    PlaceState,
    Residency,
    Running,
)
from airflow_fate.physics.costs import CostModel
from airflow_fate.workflow import Segment, Stage, Workflow
from tests.oracle.forecast import Demand, Estimate, apply, demand_of, estimate

MODELS = {
    name: ModelSpec(name, gigabytes * 1e9, 1e9, 4e9, {"gpu": 1000.0}, {"gpu": 50.0}, size)
    for name, gigabytes, size in (("a", 8, 1), ("b", 10, 1), ("wide", 20, 2), ("huge", 90, 1))
}
FLEET = Fleet(
    {"n0": Node("n0", host_bytes=100e9), "n1": Node("n1", host_bytes=100e9)},
    {
        "d0": Device("d0", "n0", "gpu", 16e9, 5000, 2),
        "d1": Device("d1", "n1", "gpu", 16e9, 5000, 2),
    },
    MODELS,
    {"g": DeviceGroup("g", ("d0", "d1"))},
)
CHAT = Workflow(
    "w",
    {
        "ask": Stage("ask", model="a", prompt_tokens=1000, expected_output_tokens=100, output_bytes=1_250_000_000),
        "reply": Stage("reply", model="a", prompt_tokens=1200, expected_output_tokens=50, continues="ask"),
    },
    (("ask", "reply"),),
)


def demand(**fields: object) -> Demand:
    stage = {"model": "a", "prompt_tokens": 1000, "expected_output_tokens": 100, **fields}
    return demand_of(Workflow("w", {"s": Stage("s", **stage)}), "s")  # type: ignore[arg-type]


def at(place: str, wanted: Demand, state: ClusterState, now: float = 0.0) -> Estimate:
    estimated = estimate(wanted, wanted.prompts, place, state, CostModel(), now)
    assert estimated is not None
    return estimated


def with_place(**fields: object) -> ClusterState:
    return ClusterState(FLEET, {"d0": PlaceState(**fields)})  # type: ignore[arg-type]


def running(finish_s: float, model: str = "a", sequences: int = 1, prefill_end_s: float = 0.0) -> Running:
    return Running("x", "y", model, sequences, prefill_end_s, finish_s)


def test_empty_place_loads_then_computes() -> None:
    parts = at("d0", demand(), ClusterState(FLEET)).parts
    assert parts.as_dict() == {"wait": 0, "load": 8, "transfer": 0, "prefill": 1, "decode": 2, "sync": 0}


def test_host_memory_makes_loading_faster() -> None:
    state = ClusterState(FLEET, host_models={"n0": frozenset({"a"})})
    assert at("d0", demand(), state).parts.load_s == 2


def test_loading_model_is_waited_for() -> None:
    assert at("d0", demand(), with_place(resident={"a": Residency("a", ready_s=3)})).parts.load_s == 3


def test_load_follows_the_load_under_way() -> None:
    state = with_place(resident={"b": Residency("b", ready_s=3)}, running=(running(9, "b"),))
    assert at("d0", replace(demand(), model="a"), with_place(resident={})).parts.load_s == 8
    small = replace(FLEET, models={**MODELS, "b": replace(MODELS["b"], weights_bytes=4e9)})
    parts = at("d0", demand(), replace(state, fleet=small)).parts
    assert (parts.wait_s, parts.load_s) == (3, 8)


def test_load_hides_the_transfer_that_goes_on_meanwhile() -> None:
    wanted = demand_of(CHAT, "ask")
    before = ClusterState(FLEET)
    after = apply(before, wanted, 1, "d0", at("d0", wanted, before))
    parts = at("d1", demand_of(CHAT, "reply"), after).parts
    assert (parts.load_s, parts.transfer_s) == (8, 0)


def test_only_leading_segments_count_as_cached() -> None:
    wanted = demand(prefix=(Segment("system", 300), Segment("document", 400)))
    outer, inner = wanted.chain
    both = {outer.key: CachedSegment(300), inner.key: CachedSegment(400)}
    assert at("d0", wanted, with_place(cached=both)).cached_tokens == 700
    assert at("d0", wanted, with_place(cached={inner.key: CachedSegment(400)})).cached_tokens == 0


def test_full_place_starts_when_enough_sequences_end() -> None:
    state = with_place(resident={"a": Residency("a")}, running=(running(3), running(7)))
    assert at("d0", demand(), state).start_s == 3
    assert at("d0", demand(prompts=2), state).start_s == 7


def test_batch_beyond_the_seats_runs_alone() -> None:
    state = with_place(resident={"a": Residency("a")}, running=(running(3),))
    assert at("d0", demand(prompts=5), state).start_s == 3


def test_overdue_work_still_takes_its_seat() -> None:
    state = with_place(resident={"a": Residency("a")}, running=(running(3), running(3)))
    assert at("d0", demand(), state, now=10).start_s > 10


def test_running_sequences_slow_decoding_down() -> None:
    state = with_place(resident={"a": Residency("a")}, running=(running(30),))
    assert at("d0", demand(), state).parts.decode_s == pytest.approx(2.06)


def test_least_recently_used_model_makes_room() -> None:
    state = with_place(resident={"a": Residency("a", last_used_s=5)})
    assert at("d0", demand(model="b"), state).evict == (("d0", "a"),)


def test_model_in_use_is_never_evicted() -> None:
    state = with_place(resident={"a": Residency("a")}, running=(running(9),))
    assert at("d0", demand(model="b"), state).start_s == 9


def test_model_that_never_fits_has_no_estimate() -> None:
    assert estimate(demand(model="huge"), 1, "d0", ClusterState(FLEET), CostModel(), 0.0) is None


def test_group_waits_until_all_its_devices_are_idle() -> None:
    state = with_place(running=(running(4),), resident={"a": Residency("a")})
    estimated = at("g", demand(model="wide"), state)
    assert estimated.start_s == 4
    assert estimated.parts.load_s == 10
    assert estimate(demand(model="wide"), 1, "d0", state, CostModel(), 0.0) is None


def test_conversation_is_cached_where_its_parent_ran() -> None:
    wanted = demand_of(CHAT, "ask")
    before = ClusterState(FLEET)
    after = apply(before, wanted, 1, "d0", at("d0", wanted, before))
    after = replace(after, places={**after.places, "d1": PlaceState({"a": Residency("a")})})
    here, elsewhere = (at(place, demand_of(CHAT, "reply"), after) for place in ("d0", "d1"))
    assert here.cached_tokens == 1100
    assert here.parts.prefill_s == pytest.approx(0.1)
    assert here.parts.transfer_s == 0
    assert elsewhere.cached_tokens == 0
    assert elsewhere.parts.transfer_s == pytest.approx(1.001)


def test_placement_leaves_model_lane_and_host_copy() -> None:
    wanted, before = demand(), ClusterState(FLEET)
    after = apply(before, wanted, 1, "d0", at("d0", wanted, before))
    place = after.place("d0")
    assert place.resident["a"].ready_s == 8
    assert place.prefill_free_s == 9
    assert [r.finish_s for r in place.running] == [11]
    assert after.host_models["n0"] == {"a"}
    assert after.outputs["w", "s"] == (("n0", 1.0),)


def test_evicted_model_takes_its_prefixes_along() -> None:
    before = with_place(resident={"a": Residency("a")}, cached={"k": CachedSegment(100, model="a")})
    wanted = demand(model="b")
    after = apply(before, wanted, 1, "d0", at("d0", wanted, before)).place("d0")
    assert set(after.resident) == {"b"}
    assert "k" not in after.cached


def test_longest_unused_prefix_makes_room_in_the_cache() -> None:
    cached = {"old": CachedSegment(2500, 1.0, "a"), "new": CachedSegment(2500, 2.0, "a")}
    before = with_place(resident={"a": Residency("a")}, cached=cached)
    wanted = demand()
    after = apply(before, wanted, 1, "d0", at("d0", wanted, before)).place("d0")
    assert "old" not in after.cached
    assert "new" in after.cached
