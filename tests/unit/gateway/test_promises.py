from __future__ import annotations

import logging

import pytest

from airflow_fate.gateway.cache.promises import FEW, LEAST_TOKENS, Promises


def _after(*cached_tokens: int | None, promised_tokens: int = 1000) -> Promises:
    promises = Promises()
    for cached in cached_tokens:
        promises.note("m", promised_tokens, cached)
    return promises


def test_a_few_contradictions_in_a_row_and_a_model_counts_for_what_it_proved() -> None:
    assert _after(*[100] * (FEW - 1)).share("m") == 1.0
    assert _after(*[100] * FEW).share("m") == pytest.approx(0.1)
    assert _after(*[0] * FEW).share("m") == 0.0
    assert _after(*[0] * FEW).share("another") == 1.0


def test_one_promise_kept_in_between_is_enough() -> None:
    assert _after(*[0] * (FEW - 1), 900, *[0] * (FEW - 1)).share("m") == 1.0


def test_it_recovers_when_it_proves_to_work() -> None:
    assert _after(*[0] * (FEW + 2), 900).share("m") == 1.0


def test_small_promises_say_nothing() -> None:
    assert _after(*[0] * FEW, promised_tokens=LEAST_TOKENS - 1).share("m") == 1.0


def test_an_engine_that_never_tells_contradicts_nothing_and_one_that_leaves_zeros_out_does() -> None:
    assert _after(*[None] * FEW).share("m") == 1.0
    assert _after(900, *[None] * FEW).share("m") == 0.0


def test_one_warning_each_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _after(*[0] * (3 * FEW))
    assert len(caplog.messages) == 1
    assert "0 of 1000 promised tokens" in caplog.messages[0]
