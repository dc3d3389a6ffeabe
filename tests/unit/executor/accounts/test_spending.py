"""Sums that are carried on are those that reading everything would give."""

from __future__ import annotations

import pytest

from airflow_fate.costs import Account, Prices
from airflow_fate.costs.days import DAY_S
from airflow_fate.executor.accounts.spending import SETTLED_S, Spending
from tests.unit.executor.accounts.conftest import MIDNIGHT, Books

DAG = Account("dag", "dag")
RUN = Account("dag", "dag", "dag", "run")
RUNS = [("dag", "run")]


def spent(spending: Spending, at: float, account: Account = DAG) -> float:
    amounts = spending.until(MIDNIGHT + at, RUNS).amounts
    return amounts[account].gpu_s if account in amounts else 0.0


@pytest.fixture
def spending(books: Books) -> Spending:
    return Spending(books.holds, Prices())


def test_what_ended_and_what_goes_on_counts(books: Books, spending: Spending) -> None:
    books.hold("a", 0, 100)
    books.hold("b", 50, device="d1")
    assert spent(spending, 150) == 100 + 100


def test_sums_that_are_carried_on_are_those_read_at_once(books: Books, spending: Spending) -> None:
    books.hold("long", 0, run_id="other")
    for number in range(40):
        books.hold(f"r{number}", 100 * number, 100 * number + 150, run_id="run" if number % 3 else "other")
        spent(spending, 100 * number + 160)
    books.end("long", 4000)
    for account in (DAG, RUN):
        assert spent(spending, 5000, account) == pytest.approx(spent(Spending(books.holds, Prices()), 5000, account))
    assert spent(spending, 5000) == pytest.approx(39 * 100 + 150)


def test_what_is_long_over_is_not_read_again(books: Books, spending: Spending) -> None:
    books.hold("a", 0, 100)
    assert spent(spending, 200 + SETTLED_S) == 100
    books.ledger.prune(-1.0)
    assert spent(spending, 300 + SETTLED_S) == 100


def test_a_load_that_is_told_of_soon_after_is_its_causers(books: Books, spending: Spending) -> None:
    books.hold("causer", 0, run_id="other")
    books.hold("waits", 0, 100)
    assert spent(spending, 100, RUN) == 50
    books.ledger.record_facts("causer", [{"device": "d0", "load_s": 80.0, "load_end_at": MIDNIGHT + 80}])
    assert spent(spending, 200, RUN) == 10


def test_a_day_begins_with_nothing(books: Books, spending: Spending) -> None:
    books.hold("a", 0, DAY_S + 10)
    assert spent(spending, 100) == 100
    assert spent(spending, DAY_S + 10) == 10


def test_a_run_has_also_what_it_spent_in_earlier_days(books: Books, spending: Spending) -> None:
    books.hold("days ago", -2 * DAY_S - 100, -2 * DAY_S - 50)
    books.hold("over midnight", -100, 50)
    books.hold("another's", -100, 0, device="d1", run_id="other")
    books.hold("today", 100, 130)
    assert spent(spending, 200, RUN) == 50 + 150 + 30
    assert spent(spending, 200) == 50 + 30


def test_a_run_that_goes_on_after_midnight_keeps_its_sum(books: Books, spending: Spending) -> None:
    books.hold("a", DAY_S - 100, DAY_S - 40)
    assert spent(spending, DAY_S - 10, RUN) == 60
    assert spent(spending, DAY_S + 10, RUN) == 60
