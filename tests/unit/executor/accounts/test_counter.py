"""Each ended try is counted once, by who has released it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.observability import stats

from airflow_fate.executor.accounts.counter import FACTS_S, CostCounter
from tests.unit.executor.accounts.conftest import MIDNIGHT, Books


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, Any]]:
    told: list[tuple[str, int, Any]] = []
    monkeypatch.setattr(stats, "incr", lambda name, count, tags: told.append((name, count, tags)))
    return told


def test_ended_tries_are_counted_by_dag_and_tenant(books: Books, counted: list[tuple[str, int, Any]]) -> None:
    counter = CostCounter(books.holds)
    for name, tenant, start, end in (("a", "finance", 0, 10), ("b", "finance", 10, 12), ("c", "", 20, 25)):
        counter.ended(books.hold(name, start, end, tenant=tenant), MIDNIGHT + end)
    books.hold("another scheduler's", 0, 30, device="d1")
    counter.count(MIDNIGHT + 30 + FACTS_S)
    counter.count(MIDNIGHT + 40 + FACTS_S)
    assert counted == [
        ("fate.cost.gpu_seconds", 12, {"dag_id": "dag", "tenant": "finance"}),
        ("fate.cost.gpu_seconds", 5, {"dag_id": "dag", "tenant": ""}),
    ]


def test_what_is_shared_counts_by_its_share(books: Books, counted: list[tuple[str, int, Any]]) -> None:
    counter = CostCounter(books.holds)
    books.hold("beside", 0)
    counter.ended(books.hold("a", 0, 10), MIDNIGHT + 10)
    counter.count(MIDNIGHT + 10 + FACTS_S)
    assert [count for _, count, _ in counted] == [5]


def test_parts_of_seconds_are_not_lost(books: Books, counted: list[tuple[str, int, Any]]) -> None:
    counter = CostCounter(books.holds)
    for number in range(4):
        counter.ended(books.hold(f"r{number}", number, number + 0.5), MIDNIGHT + number)
        counter.count(MIDNIGHT + number + FACTS_S)
    assert [count for _, count, _ in counted] == [1, 1]


def test_a_try_is_counted_when_its_facts_have_had_their_time(books: Books, counted: list[tuple[str, int, Any]]) -> None:
    counter = CostCounter(books.holds)
    counter.ended(books.hold("a", 0, 10), MIDNIGHT + 10)
    counter.count(MIDNIGHT + 10 + FACTS_S / 2)
    assert counted == []
