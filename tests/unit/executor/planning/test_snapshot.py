"""The planner's snapshot: what gateways report, and what our own reservations will leave behind."""

from __future__ import annotations

from dataclasses import replace

from airflow_fate.cluster import Fleet
from airflow_fate.executor.planning.snapshot import broken, cluster_state
from tests.unit.executor.builders import FLEET, report, reservation, view


def test_a_ready_model_is_resident_and_a_loading_one_is_ahead() -> None:
    models = {"m": {"state": "ready", "since": 1.0}, "x": {"state": "loading", "since": 99.0}}
    state = cluster_state(view(report("d0", models=models), report("d1")), [], {}, 100.0)
    assert state.place("d0").resident["m"].ready_s == 0.0
    assert state.place("d0").resident["x"].ready_s == 99.0
    assert state.place("d1").resident == {}


def test_a_running_stages_prefix_counts_as_cached() -> None:
    live = [reservation("d0", chain=(("aa", 50),))]
    state = cluster_state(view(report("d0"), report("d1")), live, {}, 101.0)
    assert state.place("d0").cached["aa"].tokens == 50
    (running,) = state.place("d0").running
    assert (running.workflow, running.stage, running.finish_s) == ("dag/run", "task", 110.0)
    assert state.place("d0").prefill_free_s == 105.0


def test_what_a_reservation_evicts_goes_with_its_prefixes() -> None:
    device = report(
        "d0", models={"old": {"state": "ready", "since": 1.0}}, prefixes=[["aa", 9, 1.0, "old"], ["bb", 9, 1.0, "m"]]
    )
    live = [reservation("d0", evict=(("d0", "old"),), cost={"load": 2.0})]
    place = cluster_state(view(device, report("d1")), live, {}, 101.0).place("d0")
    assert set(place.resident) == {"m"}
    assert place.resident["m"].ready_s == 102.0
    assert set(place.cached) == {"bb"}


def test_work_that_outlasts_its_estimate_is_expected_to_end_soon_not_long_ago() -> None:
    state = cluster_state(view(report("d0"), report("d1")), [reservation("d0")], {}, 200.0)
    assert state.place("d0").running[0].finish_s == 215.0


def test_a_device_that_is_silent_or_unusable_is_no_place() -> None:
    state = cluster_state(view(report("d0"), unusable=frozenset({"d0"})), [], {}, 1.0)
    assert not state.place("d0").usable
    assert not state.place("d1").usable


def test_a_group_is_usable_when_all_its_members_are() -> None:
    both = view(report("d0"), report("d1"))
    assert cluster_state(both, [], {}, 1.0).place("g").usable
    half = view(report("d0"), report("d1"), unusable=frozenset({"d1"}))
    assert not cluster_state(half, [], {}, 1.0).place("g").usable


def test_a_groups_work_is_counted_once_and_on_the_group_only() -> None:
    state = cluster_state(view(report("d0"), report("d1")), [reservation("d0", "d1", place="g")], {}, 101.0)
    assert [running.sequences for running in state.place("g").running] == [1]
    assert state.place("d0").running == ()


def test_a_group_is_broken_when_it_is_no_more_and_a_member_still_is() -> None:
    on_group, alone = reservation("d0", "d1", place="g"), reservation("d0", id="r2")
    seen = view(report("d0"))
    assert broken(seen, [on_group, alone]) == []
    without = replace(FLEET, groups={}, devices={"d0": FLEET.devices["d0"]})
    assert broken(replace(seen, fleet=without), [on_group, alone]) == [on_group]
    # Nothing is known of any member: perhaps nothing is known yet at all.
    assert broken(replace(seen, fleet=Fleet({}, {}, {}, {})), [on_group, alone]) == []


def test_a_group_has_what_its_leader_reports() -> None:
    leader = report("d0", models={"m": {"state": "ready", "since": 1.0}})
    state = cluster_state(view(leader, report("d1")), [], {}, 1.0)
    assert set(state.place("g").resident) == {"m"}


def test_weights_in_the_memory_of_any_device_are_in_that_of_its_node() -> None:
    reports = (report("d0", host_models=["a"]), report("d1", host_models=["b"]))
    assert cluster_state(view(*reports), [], {}, 1.0).host_models == {"n": frozenset({"a", "b"})}


def test_a_reports_prefixes_keep_their_model_and_age() -> None:
    state = cluster_state(view(report("d0", prefixes=[["aa", 9, 4.0, "m"]])), [], {}, 5.0)
    cached = state.place("d0").cached["aa"]
    assert (cached.tokens, cached.last_used_s, cached.model) == (9, 4.0, "m")
