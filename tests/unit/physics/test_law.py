"""The law of engines is found in their answers: whatever it is, through noise and outliers, and never from nonsense."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_fate.physics.law import Law, Measured, Speeds, described_law

DESCRIBED = Speeds(1000.0, 50.0, 0.03, 0.0)


def true_s(speeds: Speeds, measured: Measured) -> float:
    decoded = measured.output_tokens + speeds.decode_slowdown * measured.beside
    decoded += speeds.context_slowdown * measured.context / 1000
    return measured.prompt_tokens / speeds.prefill_tps + decoded / speeds.decode_tps


def answers(truth: Speeds, seed: int, noise: float = 0.1, outliers: float = 0.05) -> Iterator[Measured]:
    """Prompts and outputs of a busy engine, of any length, in turns."""
    rng = random.Random(seed)
    while True:
        prompt, output, further = rng.randint(20, 800), rng.randint(8, 128), rng.randint(0, 3)
        others = rng.choice((0, 0, rng.randint(0, 400)))
        context = (1 + further) * (prompt + output / 2)
        for phase in (Measured(0.0, prompt), Measured(0.0, others, output, output * further, output * context)):
            seconds = true_s(truth, phase) * rng.lognormvariate(0, noise)
            yield replace(phase, seconds=seconds * (5 if rng.random() < outliers else 1))


def learned(truth: Speeds, count: int, seed: int = 0, noise: float = 0.1) -> Law:
    law, stream = described_law(DESCRIBED), answers(truth, seed, noise)
    for _ in range(count):
        law = law.after(next(stream))
    return law


def errors(law: Law, truth: Speeds) -> list[float]:
    """Of what the law says of answers that it was not fitted on, sorted."""
    fresh = answers(truth, seed=99)
    tests = [next(fresh) for _ in range(200)]
    return sorted(abs(law.seconds(test) / true_s(truth, test) - 1) for test in tests)


@pytest.mark.parametrize(
    "truth",
    [
        DESCRIBED,
        Speeds(100.0, 5.0, 0.03, 0.0),
        Speeds(10_000.0, 500.0, 0.03, 0.0),
        Speeds(500.0, 30.0, 0.9, 0.0),
        Speeds(500.0, 30.0, 0.01, 0.3),
    ],
    ids=["as described", "tenfold slower", "tenfold faster", "a CPU", "long contexts"],
)
def test_after_a_hundred_answers_the_law_says_what_others_take(truth: Speeds) -> None:
    wrong = errors(learned(truth, 200), truth)
    assert wrong[100] < 0.1
    assert wrong[180] < 0.2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 5), max_size=30))
def test_whatever_is_measured_speeds_stay_finite_and_positive(rows: list[tuple[float, ...]]) -> None:
    law = described_law(DESCRIBED)
    for row in rows:
        law = law.after(Measured(*row))
    speeds = law.speeds
    assert 0 < speeds.prefill_tps < math.inf
    assert 0 < speeds.decode_tps < math.inf
    assert 0 <= speeds.decode_slowdown < math.inf
    assert 0 <= speeds.context_slowdown < math.inf


def test_two_answers_say_nothing_yet() -> None:
    assert learned(Speeds(100.0, 5.0, 0.03, 0.0), 2).speeds == DESCRIBED


def test_answers_that_contradict_each_other_change_nothing() -> None:
    law = described_law(DESCRIBED)
    for k in range(200):
        law = law.after(Measured(0.02 if k % 2 else 20.0, 100.0, 10.0))
    assert law.speeds == DESCRIBED


def test_an_outlier_hardly_moves_a_law_that_is_known() -> None:
    law = learned(DESCRIBED, 200)
    moved = law.after(Measured(1000.0, 500.0, 50.0))
    assert moved.speeds.prefill_tps == pytest.approx(law.speeds.prefill_tps, rel=0.1)
    assert moved.speeds.decode_tps == pytest.approx(law.speeds.decode_tps, rel=0.1)


def test_an_engine_that_changes_for_good_is_followed() -> None:
    law, truth = learned(DESCRIBED, 200), Speeds(500.0, 25.0, 0.03, 0.0)
    stream = answers(truth, seed=5)
    for _ in range(120):
        law = law.after(next(stream))
    assert errors(law, truth)[100] < 0.1


def test_what_is_known_well_has_a_small_deviation() -> None:
    before, after = described_law(DESCRIBED).deviations, learned(DESCRIBED, 200).deviations
    assert after[0] < before[0] / 5
    assert after[1] < before[1] / 5
