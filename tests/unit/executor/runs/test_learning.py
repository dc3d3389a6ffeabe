"""Facts correct estimates: speeds towards what was measured, means of tokens, and the time around a request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_fate.executor.runs.learning import Learned
from airflow_fate.messages import Facts
from tests.unit.executor.builders import FLEET, MODEL, reservation

FACT = Facts(
    reservation="r1",
    device="d0",
    model="m",
    requests=1,
    prompt_tokens=300,
    cached_tokens=100,
    completion_tokens=20,
    prefill_s=4.0,
    decode_s=2.0,
)


def test_a_slower_engine_lowers_its_speed_and_a_faster_one_raises_it() -> None:
    slow = Learned().after(reservation("d0"), [FACT], FLEET, 110.0).costs
    assert slow.prefill_tps(MODEL, "cpu") < 100.0
    assert slow.decode_tps(MODEL, "cpu") == pytest.approx(10.0)
    fast = Learned().after(reservation("d0"), [FACT.model_copy(update={"prefill_s": 1.0})], FLEET, 110.0).costs
    assert fast.prefill_tps(MODEL, "cpu") > 100.0


def test_an_engine_that_tells_no_phases_teaches_its_speed_and_leaves_the_overhead_alone() -> None:
    # Expected are 2 s for each phase, and 10 s pass from claim to end.
    whole = FACT.model_copy(update={"prefill_s": 0.0, "decode_s": 0.0, "engine_s": 8.0})
    apart = FACT.model_copy(update={"prefill_s": 4.0, "decode_s": 4.0})
    after = [Learned().after(reservation("d0"), [fact], FLEET, 110.0) for fact in (whole, apart)]
    assert after[0] == after[1]
    assert after[0].costs.decode_tps(MODEL, "cpu") < 10.0


def test_means_are_per_prompt_and_move_with_each_run() -> None:
    once = Learned().after(reservation("d0"), [FACT], FLEET, 110.0)
    assert once.of(reservation("d0")).prompt_tokens == 300
    longer = FACT.model_copy(update={"prompt_tokens": 500})
    assert once.after(reservation("d0"), [longer], FLEET, 110.0).of(reservation("d0")).prompt_tokens == 400


def test_the_time_around_a_request_is_learned() -> None:
    assert Learned(overhead_s=1.0).after(reservation("d0"), [FACT], FLEET, 110.0).overhead_s == pytest.approx(1.6)


@pytest.mark.parametrize("facts", [[], [FACT.model_copy(update={"requests": 0})]])
def test_without_facts_nothing_is_learned(facts: list[Facts]) -> None:
    before = Learned()
    assert before.after(reservation("d0"), facts, FLEET, 110.0) == before


def test_a_device_that_left_the_fleet_teaches_no_speed() -> None:
    gone = FACT.model_copy(update={"device": "d9"})
    assert Learned().after(replace(reservation("d9"), id="r1"), [gone], FLEET, 110.0).costs == Learned().costs
