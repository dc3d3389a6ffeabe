"""The receipt of a placement: what was expected, beside what happened."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_fate.plugin.receipt import Part, Phase, Tokens, receipt_of, receipts
from tests.unit.plugin.builders import ended, facts, reservation


def test_what_happened_stands_beside_what_was_expected() -> None:
    receipt = receipt_of(ended())
    assert receipt.parts == (
        Part("wait", 1.0, 0.5),
        Part("load", 2.0, 1.5),
        Part("transfer", 0.5, None),
        Part("prefill", 3.0, 2.0),
        Part("decode", 4.0, 4.0),
        Part("sync", 0.0, None),
    )
    assert receipt.tokens == Tokens(requests=1, prompt=100, cached=60, completion=10)


def test_an_engine_that_tells_no_phases_is_compared_by_their_sum() -> None:
    receipt = receipt_of(ended(facts=[facts(prefill_s=0.0, decode_s=0.0, engine_s=5.0)]))
    assert [part.name for part in receipt.parts] == ["wait", "load", "transfer", "prefill and decode", "sync"]
    assert receipt.parts[3] == Part("prefill and decode", 7.0, 5.0)


def test_of_several_devices_the_one_that_took_longest_is_told() -> None:
    receipt = receipt_of(ended(facts=[facts(decode_s=9.0), facts(device="gpu-1", decode_s=1.0)]))
    assert {part.name: part.measured_s for part in receipt.parts}["decode"] == 9.0
    assert receipt.tokens == Tokens(requests=2, prompt=200, cached=120, completion=20)


def test_a_placement_that_still_runs_has_the_phases_that_are_expected() -> None:
    receipt = receipt_of(reservation())
    assert not receipt.measured
    assert receipt.tokens is None
    assert receipt.phases[0] == Phase("wait", 100.0, 101.0)
    assert receipt.phases[-1] == Phase("decode", 106.5, 110.5)


def test_the_time_in_which_the_engine_does_nothing_for_it_comes_first() -> None:
    receipt = receipt_of(ended())
    assert receipt.measured
    assert receipt.phases[0] == Phase("start", 100.0, 112.0)
    assert all(phase.end_at == following.start_at for phase, following in pairwise(receipt.phases))
    assert receipt.phases[-1].end_at == 120.0


def test_work_that_overlaps_is_shown_in_its_proportion() -> None:
    receipt = receipt_of(ended(facts=[facts(requests=8, wait_s=0, load_s=0, prefill_s=20, decode_s=60)]))
    assert receipt.phases == (Phase("prefill", 100.0, 105.0), Phase("decode", 105.0, 120.0))


def test_a_devices_own_fault_is_told() -> None:
    receipt = receipt_of(ended(outcome="failed", facts=[facts(requests=0, fault="no_model")]))
    assert receipt.faults == (("gpu-0", "no_model"),)
    assert not receipt.measured


def test_a_row_of_an_older_release_is_read() -> None:
    receipt = receipt_of(ended(cost={}, future_s=None, facts=None))
    assert receipt.future_s is None
    assert {part.expected_s for part in receipt.parts} == {None}
    assert receipt.phases == (Phase("start", 100.0, 120.0),)


@pytest.mark.parametrize(
    ("asked", "reservations"), [((), ["a", "b", "c"]), (("ask",), ["a", "b"]), (("ask", 1), ["b"]), (("nobody",), [])]
)
def test_a_run_has_the_receipts_of_all_its_placements(asked: tuple[str, int], reservations: list[str]) -> None:
    of_run = [
        reservation(id="a", map_index=0),
        reservation(id="b", map_index=1),
        reservation(id="c", task_id="other"),
    ]
    assert [receipt.reservation for receipt in receipts(of_run, *asked)] == reservations
