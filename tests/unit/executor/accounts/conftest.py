"""A ledger whose clock a test sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from airflow_fate.state.holds import Holds
from airflow_fate.state.ledger import Ledger, Reservation, transaction
from airflow_fate.state.tables import metadata
from tests.unit.executor.builders import reservation

MIDNIGHT = 20_000 * 86_400.0


class Books:
    """A ledger, and what was held."""

    def __init__(self, file: Path) -> None:
        self.engine = create_engine(f"sqlite:///{file}")
        metadata.create_all(self.engine)
        connect = partial(transaction, self.engine)
        self.now = MIDNIGHT
        self.ledger = Ledger(connect, clock=lambda: self.now)
        self.ledger.register({"d0": 9, "d1": 9})
        self.holds = Holds(connect)

    def hold(self, name: str, start_at: float, end_at: float = inf, device: str = "d0", **fields: Any) -> Reservation:
        """A hold; times count from midnight. It ends when its time has come."""
        wanted = reservation(device, id=name, ti_id=name, claimed_at=MIDNIGHT + start_at, **fields)
        shares = tuple(replace(share, gpu="cpu") for share in wanted.shares)
        claimed = self.ledger.claim(replace(wanted, shares=shares))
        if end_at < inf:
            self.end(name, end_at)
        return claimed

    def end(self, name: str, at: float) -> None:
        before, self.now = self.now, MIDNIGHT + at
        self.ledger.release(name, "success")
        self.now = before


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "ledger.db")
    yield books
    books.engine.dispose()
