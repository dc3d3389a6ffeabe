"""A ledger that a test fills with holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from airflow_fate.state.holds import Holds
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.tables import metadata
from tests.unit.state.test_ledger import wanted


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


class Filled:
    """A ledger with reservations on two devices."""

    def __init__(self, engine: Engine) -> None:
        self.now = 0.0
        self.connect = partial(transaction, engine)
        self.ledger = Ledger(self.connect, clock=lambda: self.now)
        self.ledger.register({"gpu-0": 100, "gpu-1": 100})

    def hold(self, name: str, start_at: float, end_at: float = inf, *devices: str, run_id: str = "r") -> str:
        made = replace(wanted(name, *(devices or ("gpu-0",))), id=name, run_id=run_id, claimed_at=start_at)
        self.ledger.claim(made)
        if end_at < inf:
            self.now = end_at
            self.ledger.release(name, "success")
        return name

    def names(self, since: float, until: float, page: int = 5000, devices: tuple[str, ...] | None = None) -> list[str]:
        holds = Holds(self.connect, page).between(since, until, devices)
        return sorted(f"{hold.owner.reservation} on {hold.device}" for hold in holds)


@pytest.fixture
def filled(engine: Engine) -> Filled:
    return Filled(engine)
