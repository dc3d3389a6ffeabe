"""Holds are read from the ledger whole, however small the pages, and only those of the range."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from airflow_fate.costs import Interval
from airflow_fate.state.holds import Holds
from tests.unit.state.conftest import Filled
from tests.unit.state.test_ledger import wanted


@pytest.mark.parametrize("page", [1, 2, 3, 5000])
def test_pages_lose_nothing_and_repeat_nothing(filled: Filled, page: int) -> None:
    for number in range(6):
        # Many end at the same time.
        filled.hold(f"r{number}", 0, 10 + number // 3, "gpu-0", "gpu-1")
    filled.hold("goes on", 0)
    both = [f"r{number} on gpu-{device}" for number in range(6) for device in range(2)]
    assert filled.names(0, 20, page) == ["goes on on gpu-0", *both]


def test_only_what_lies_within_the_range_is_read(filled: Filled) -> None:
    filled.hold("before", 0, 10)
    filled.hold("into it", 5, 15)
    filled.hold("out of it", 15, 30)
    filled.hold("after", 20)
    filled.hold("across it", 0)
    assert filled.names(10, 20) == ["across it on gpu-0", "into it on gpu-0", "out of it on gpu-0"]


def test_of_some_devices_only_theirs_are_read(filled: Filled) -> None:
    filled.hold("one", 0, 10, "gpu-0")
    filled.hold("both", 0, inf, "gpu-0", "gpu-1")
    assert filled.names(0, 20, devices=("gpu-1",)) == ["both on gpu-1"]


def test_a_hold_is_whole(filled: Filled) -> None:
    filled.hold("a", 1, 9)
    filled.ledger.record_facts("a", [{"device": "gpu-0", "load_s": 2.0, "load_end_at": 5.0}])
    (hold,) = Holds(filled.connect).between(0, 10)
    owner = hold.owner
    assert (owner.dag_id, owner.run_id, owner.task_id, owner.tenant, owner.model) == (
        "d",
        "r",
        "task-a",
        "finance",
        "m",
    )
    assert (hold.device, hold.gpu, hold.sequences) == ("gpu-0", "l4", 1)
    assert (hold.span, hold.load) == (Interval(1, 9), Interval(3, 5))


def test_the_members_of_a_group_load_together(filled: Filled) -> None:
    group = wanted("a", "gpu-0", "gpu-1")
    filled.ledger.claim(replace(group, shares=tuple(replace(share, place="both") for share in group.shares)))
    filled.ledger.record_facts(group.id, [{"device": "gpu-0", "load_s": 2.0, "load_end_at": 55.0}])
    assert [hold.load for hold in Holds(filled.connect).between(0, 60)] == [Interval(53, 55)] * 2


@pytest.mark.parametrize("fact", [{"load_s": 0.0, "load_end_at": 0.0}, {"load_s": 2.0}])
def test_a_load_that_nobody_told_of_is_none(filled: Filled, fact: dict[str, float]) -> None:
    filled.hold("a", 1, 9)
    filled.ledger.record_facts("a", [{"device": "gpu-0"} | fact])
    (hold,) = Holds(filled.connect).between(0, 10)
    assert hold.load is None


def test_runs_are_found_by_their_first_claim(filled: Filled) -> None:
    filled.hold("a", 5, 6, run_id="monday")
    filled.hold("b", 3, run_id="monday")
    filled.hold("c", 8, run_id="tuesday")
    asked = [("d", "monday"), ("d", "tuesday"), ("d", "never")]
    assert Holds(filled.connect).first_claims(asked) == {("d", "monday"): 3, ("d", "tuesday"): 8}
