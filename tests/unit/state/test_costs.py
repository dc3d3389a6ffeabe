"""What a range of time cost, by everything that one may ask for, and what one placement cost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine

from airflow_fate.costs import Amount, Prices
from airflow_fate.costs.days import DAY_S
from airflow_fate.state.costs import GROUPINGS, cost_report, placement_costs
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.presence import NOTED_EVERY_S, Presence
from tests.unit.state.conftest import Filled
from tests.unit.state.test_ledger import wanted

PRICES = Prices(each=3600.0)


def report(filled: Filled, by: str, since: float, until: float) -> dict[tuple[str, ...], float]:
    return {key: amount.gpu_s for key, amount in cost_report(filled.connect, PRICES, by, since, until).rows}


def test_costs_add_up_by_whatever_is_asked(filled: Filled) -> None:
    filled.hold("a", 0, 10, run_id="monday")
    filled.hold("b", 5, 20, run_id="tuesday")
    filled.hold("c", DAY_S - 5, DAY_S + 7, "gpu-0", "gpu-1", run_id="tuesday")
    assert {by: report(filled, by, 0, 2 * DAY_S) for by in GROUPINGS} == {
        "dag": {("d",): 44.0},
        "run": {("d", "tuesday"): 36.5, ("d", "monday"): 7.5},
        "task": {("d", "task-c"): 24.0, ("d", "task-b"): 12.5, ("d", "task-a"): 7.5},
        "tenant": {("finance",): 44.0},
        "model": {("m",): 44.0},
        "day": {("1970-01-01",): 30.0, ("1970-01-02",): 14.0},
    }


def test_what_is_nobodys_is_shown_apart(filled: Filled) -> None:
    presence = Presence(filled.connect)
    for at in range(0, 601, int(NOTED_EVERY_S)):
        presence.note(["gpu-0", "gpu-1"], float(at))
    filled.hold("a", 0, 100)
    filled.hold("goes on", 50)
    found = cost_report(filled.connect, PRICES, "dag", 0, 600)
    assert (found.total, found.fleet.busy_s, found.fleet.idle_s) == (Amount(600, 0, 600), 600, 600)


def test_a_range_has_its_part_only(filled: Filled) -> None:
    filled.hold("a", 0, 100)
    assert report(filled, "dag", 30, 50) == {("d",): 20}
    assert report(filled, "dag", 200, 300) == {}


def test_what_an_earlier_release_recorded_counts_too(filled: Filled, engine: Engine) -> None:
    old = replace(wanted("old", "gpu-0"), claimed_at=10.0, tenant="", cost={})
    ledger = Ledger(partial(transaction, engine), clock=lambda: 20.0)
    ledger.claim(replace(old, shares=tuple(replace(share, gpu="") for share in old.shares)))
    ledger.release(old.id, "success")
    assert report(filled, "tenant", 0, 100) == {("",): 10}
    assert cost_report(filled.connect, Prices(by_gpu={"l4": 1.0}), "dag", 0, 100).total.money is None


def test_a_placement_costs_its_share_of_what_it_held(filled: Filled) -> None:
    filled.hold("a", DAY_S - 10, DAY_S + 10, run_id="mine")
    filled.hold("beside", DAY_S, DAY_S + 10, run_id="other")
    filled.hold("goes on", DAY_S + 20, run_id="mine")
    mine = filled.ledger.of_runs([("d", "mine")])
    found = placement_costs(filled.connect, PRICES, mine, DAY_S + 25)
    assert found == {"a": Amount(15, 0, 15), "goes on": Amount(5, 0, 5)}


def test_nothing_that_was_placed_costs_nothing(filled: Filled) -> None:
    assert placement_costs(filled.connect, PRICES, [], 100.0) == {}


@pytest.mark.parametrize("by", GROUPINGS)
def test_as_plain_values_each_row_has_its_keys_by_name(filled: Filled, by: str) -> None:
    filled.hold("a", 0, 10)
    found: dict[str, Any] = cost_report(filled.connect, PRICES, by, 0, 100).to_json()
    (row,) = found["rows"]
    assert row.keys() == {*GROUPINGS[by].names, "gpu_s", "load_gpu_s", "money"}
    assert found["fleet"] == {"busy_gpu_s": 10.0, "idle_gpu_s": 0.0, "fleet_gpu_s": 10.0}
