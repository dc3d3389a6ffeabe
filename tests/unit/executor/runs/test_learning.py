"""Facts correct estimates: speeds towards what was measured, means of tokens, and the time around a request."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from airflow_fate.cluster import Fleet
from airflow_fate.executor.runs.learning import Learned
from airflow_fate.messages import Facts
from airflow_fate.physics.law import Speeds
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


def taught(*facts: Facts, fleet: Fleet = FLEET) -> Speeds:
    """The speeds of the model once tries have ended with these facts, one after another."""
    learned = Learned()
    for fact in facts:
        learned = learned.after(reservation(fact.device), [fact], fleet, 110.0)
    return learned.costs.speeds(MODEL, "cpu", fleet.decode_slowdown)


def test_a_slower_engine_lowers_its_speed_and_a_faster_one_raises_it() -> None:
    slow = taught(*[FACT] * 5)
    assert slow.prefill_tps == pytest.approx(50.0, rel=0.05)
    assert slow.decode_tps == pytest.approx(10.0, rel=0.05)
    assert taught(*[FACT.model_copy(update={"prefill_s": 1.0})] * 5).prefill_tps == pytest.approx(200.0, rel=0.05)


def test_an_engine_that_tells_no_phases_teaches_its_speeds_and_leaves_the_overhead_alone() -> None:
    # Expected are 2 s for each phase, and 10 s pass from claim to end.
    whole = FACT.model_copy(update={"prefill_s": 0.0, "decode_s": 0.0, "engine_s": 8.0})
    apart = FACT.model_copy(update={"prefill_s": 4.0, "decode_s": 4.0})
    one, other = (Learned().after(reservation("d0"), [fact], FLEET, 110.0) for fact in (whole, apart))
    assert one.overhead_s == other.overhead_s
    speeds = taught(*[whole] * 5)
    assert 200 / speeds.prefill_tps + 20 / speeds.decode_tps == pytest.approx(8.0, rel=0.05)


def test_what_decodes_beside_an_answer_teaches_how_much_it_slows_it() -> None:
    facts = [
        FACT.model_copy(
            update={"prefill_s": 2.0, "tokens_beside": 20.0 * further, "decode_s": 2.0 * (1 + 0.5 * further)}
        )
        for further in (0, 1, 3, 2)
    ]
    assert taught(*facts * 8).decode_slowdown == pytest.approx(0.5, rel=0.1)


def test_prompts_of_others_in_the_same_steps_do_not_pass_for_slow_decoding() -> None:
    alone = FACT.model_copy(update={"prefill_s": 2.0, "decode_s": 2.0})
    beside = alone.model_copy(update={"decode_s": 2.0 + 3.0, "prompt_tokens_beside": 300.0})
    assert taught(*[alone, beside] * 8).decode_tps == pytest.approx(10.0, rel=0.1)


def test_a_device_slower_than_its_like_is_planned_as_such() -> None:
    devices = {name: replace(FLEET.devices["d0"], id=name) for name in ("d0", "d1")}
    fleet, learned = replace(FLEET, devices=devices), Learned()
    for _ in range(60):
        for name, seconds in (("d0", 2.0), ("d1", 4.0)):
            fact = FACT.model_copy(update={"device": name, "prefill_s": seconds, "decode_s": seconds})
            learned = learned.after(reservation(name), [fact], fleet, 110.0)
    slowness = learned.costs.slowness
    assert slowness["d1"] / slowness["d0"] == pytest.approx(2.0, rel=0.1)


def test_a_device_without_its_like_is_described_by_the_law_alone() -> None:
    fleet, learned = replace(FLEET, devices={"d0": FLEET.devices["d0"]}, groups={}), Learned()
    for _ in range(10):
        learned = learned.after(reservation("d0"), [FACT], fleet, 110.0)
    assert not learned.costs.slowness


def test_plans_come_true_within_a_hundred_answers_of_an_engine_tenfold_slower() -> None:
    truth, rng, learned = Speeds(10.0, 1.0, 0.3, 0.1), random.Random(0), Learned()
    for _ in range(100):
        prompt, output, further = rng.randint(50, 800), rng.randint(10, 100), rng.choice((0, 0, 1, 2, 3))
        context = (1 + further) * (prompt + output / 2)
        step_s = (1 + truth.decode_slowdown * further + truth.context_slowdown * context / 1000) / truth.decode_tps
        fact = FACT.model_copy(
            update={
                "prompt_tokens": prompt,
                "cached_tokens": 0,
                "completion_tokens": output,
                "prefill_s": prompt / truth.prefill_tps * rng.lognormvariate(0, 0.1),
                "decode_s": output * step_s * rng.lognormvariate(0, 0.1),
                "tokens_beside": float(output * further),
                "context_tokens": output * context,
            }
        )
        learned = learned.after(reservation("d0"), [fact], FLEET, 110.0)
    speeds = learned.costs.speeds(MODEL, "cpu", FLEET.decode_slowdown)
    assert speeds.prefill_tps == pytest.approx(truth.prefill_tps, rel=0.15)
    for further in (0, 3):
        context = (1 + further) * 450
        expected, real = (
            (1 + s.decode_slowdown * further + s.context_slowdown * context / 1000) / s.decode_tps
            for s in (speeds, truth)
        )
        assert expected == pytest.approx(real, rel=0.15)


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
