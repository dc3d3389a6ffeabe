"""Who may spend is told from what is known, and nobody spends before it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_fate.costs import Action, Payer, Prices, parse_budgets
from airflow_fate.costs.days import DAY_S
from airflow_fate.executor.accounts.accounts import NOT_KNOWN, Accounts
from tests.unit.executor.accounts.conftest import MIDNIGHT, Books
from tests.until import until

PAYERS = {"t": Payer("dag", "run", "finance")}


def accounts(books: Books, *budgets: str) -> Accounts:
    return Accounts(parse_budgets(f"[{', '.join(budgets)}]"), Prices(), books.holds, lambda: books.now)


def budget(per: str = "day", action: str = "hold", gpu_seconds: float = 60, whose: str = '"dag": "dag"') -> str:
    return f'{{{whose}, "per": "{per}", "action": "{action}", "gpu_seconds": {gpu_seconds}}}'


def verdict(known: Accounts, now: float, payers: Any = PAYERS) -> tuple[Action, str] | None:
    over = known.judge(payers, MIDNIGHT + now).get("t")
    return (over.action, over.reason) if over else None


def test_a_task_waits_until_what_was_spent_is_known(books: Books) -> None:
    known = accounts(books, budget())
    assert verdict(known, 10) == (Action.HOLD, NOT_KNOWN)
    known.refresh()
    assert verdict(known, 10) is None


def test_a_new_run_waits_until_its_past_is_known(books: Books) -> None:
    books.hold("yesterday", -100, -20)
    known = accounts(books, budget(per="run", action="fail"))
    known.refresh()
    assert verdict(known, 10) == (Action.HOLD, NOT_KNOWN)
    known.refresh()
    over = verdict(known, 10)
    assert over is not None
    assert over[0] is Action.FAIL


def test_yesterdays_sums_say_nothing_of_today(books: Books) -> None:
    books.hold("a", 0, 100)
    known = accounts(books, budget())
    books.now = MIDNIGHT + 200
    known.refresh()
    over = verdict(known, 200)
    assert over is not None
    assert over[1].startswith("DAG 'dag' has spent 100.00 today")
    assert verdict(known, DAY_S) == (Action.HOLD, NOT_KNOWN)
    books.now = MIDNIGHT + DAY_S
    known.refresh()
    assert verdict(known, DAY_S) is None


def test_a_warning_keeps_nobody_waiting_and_is_logged_once(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    books.hold("a", 0, 100)
    known = accounts(books, budget(action="warn"))
    assert verdict(known, 200) is None
    books.now = MIDNIGHT + 200
    known.refresh()
    found = {verdict(known, 200) for _ in range(3)}
    assert found == {(Action.WARN, caplog.records[0].getMessage())}
    assert len(caplog.records) == 1


def test_without_a_budget_of_its_own_nobody_waits(books: Books) -> None:
    assert verdict(accounts(books), 10) is None
    assert verdict(accounts(books, budget(whose='"dag": "other"')), 10) is None


def test_the_thread_reads_when_it_starts_and_when_a_run_is_new(books: Books) -> None:
    known = accounts(books, budget(per="run"))
    known.start()
    try:
        until(lambda: verdict(known, 10) is None)
    finally:
        known.stop()


def test_where_the_ledger_cannot_be_read_the_reason_says_so(
    books: Books, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such table")

    monkeypatch.setattr(books.holds, "between", fail)
    known = accounts(books, budget())
    known.start()
    try:
        until(lambda: verdict(known, 10) == (Action.HOLD, f"{NOT_KNOWN}: no such table"))
    finally:
        known.stop()
    assert "What was spent can't be read: no such table" in caplog.text
