from __future__ import annotations

import pytest

from airflow_fate.gateway.engines import Usage
from airflow_fate.gateway.report import facts as module
from airflow_fate.gateway.report.company import Beside
from airflow_fate.gateway.report.facts import FactsBook
from airflow_fate.gateway.supervisor import LONGEST_BACKOFF_S, Backoff

ALONE = Beside(0.0, 100.0, 0.0)


def test_each_token_counts_with_the_company_that_it_had() -> None:
    book = FactsBook("gpu-0")
    for beside in (Beside(2.0, 300.0, 50.0), Beside(0.5, 100.0, 0.0)):
        book.add("r", "m", Usage(100, 0, 10), beside, wait_s=0, load_s=0, load_end_at=0, engine_s=1, first_byte_s=0)
    facts = book.of("r")
    assert (facts.tokens_beside, facts.context_tokens, facts.prompt_tokens_beside) == (25.0, 4000.0, 50.0)


def test_work_adds_up_and_waiting_is_that_of_the_first() -> None:
    book = FactsBook("gpu-0")
    book.add(
        "r",
        "m",
        Usage(100, 0, 5, 2.0, 1.0),
        ALONE,
        wait_s=1.0,
        load_s=3.0,
        load_end_at=50.0,
        engine_s=3.5,
        first_byte_s=6.0,
    )
    book.add(
        "r",
        "m",
        Usage(100, 90, 5, 0.5, 1.0),
        ALONE,
        wait_s=7.0,
        load_s=0.0,
        load_end_at=0.0,
        engine_s=2.0,
        first_byte_s=7.5,
    )
    facts = book.of("r")
    assert (facts.requests, facts.prompt_tokens, facts.cached_tokens, facts.completion_tokens) == (2, 200, 90, 10)
    assert (facts.prefill_s, facts.decode_s, facts.load_s) == (2.5, 2.0, 3.0)
    assert facts.load_end_at == 50.0
    assert (facts.wait_s, facts.first_byte_s, facts.engine_s) == (1.0, 6.0, 0.0)


def test_an_engine_that_tells_no_phases_is_timed_as_a_whole() -> None:
    book = FactsBook("gpu-0")
    for _ in range(2):
        book.add(
            "r", "m", Usage(100, 0, 5), ALONE, wait_s=1.0, load_s=3.0, load_end_at=50.0, engine_s=2.5, first_byte_s=6.0
        )
    facts = book.of("r")
    assert (facts.engine_s, facts.prefill_s, facts.decode_s) == (5.0, 0.0, 0.0)


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_RESERVATIONS", 3)
    book = FactsBook("gpu-0")
    for number in range(5):
        book.add(f"r{number}", "m", Usage(1), ALONE, wait_s=0, load_s=0, load_end_at=0, engine_s=0, first_byte_s=0)
    assert [book.of(f"r{number}").requests for number in range(5)] == [0, 0, 1, 1, 1]


def test_quick_deaths_are_answered_ever_more_slowly() -> None:
    backoff = Backoff()
    pauses_s = [backoff.after_s(lived_s=0.1) for _ in range(10)]
    assert pauses_s[:4] == [0.25, 0.5, 1.0, 2.0]
    assert pauses_s[-1] == LONGEST_BACKOFF_S
    assert backoff.after_s(lived_s=60.0) == 0.25
