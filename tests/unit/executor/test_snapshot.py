"""The planner's snapshot: what gateways report, and what our own reservations will leave behind."""

from __future__ import annotations

from airflow_fate.executor.snapshot import cluster_state
from tests.unit.executor.builders import report, reservation, view


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
    assert state.place("d0").running[0].finish_s == 202.0


def test_a_device_that_is_silent_or_unusable_is_no_place() -> None:
    state = cluster_state(view(report("d0"), unusable=frozenset({"d0"})), [], {}, 1.0)
    assert not state.place("d0").usable
    assert not state.place("d1").usable


def test_a_group_is_usable_when_all_its_members_are() -> None:
    both = view(report("d0"), report("d1"))
    assert cluster_state(both, [], {}, 1.0).place("g").usable
    one = view(report("d0"), report("d1"), unusable=frozenset({"d1"}))
    assert not cluster_state(one, [], {}, 1.0).place("g").usable
