"""FATE's tables are used where they can be; where they can't, a standby takes their place and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from airflow_fate.state.history import History
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.store import RETRY_S, Store
from airflow_fate.state.tables import metadata


class World:
    """A database that may lack FATE's tables, and a clock."""

    def __init__(self, path: Path) -> None:
        self.engine: Engine = create_engine(f"sqlite:///{path}")
        self.now_s = 0.0
        self.statements: list[str] = []
        event.listen(self.engine, "before_cursor_execute", lambda *args: self.statements.append(args[2]))
        self.store = Store(self.connect, lambda: self.now_s)
        self.ledger = Ledger(self.store.connect)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with transaction(self.engine) as connection:
            yield connection

    def migrate(self) -> None:
        metadata.create_all(self.engine)

    def drop(self, table: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {table}"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db")


def test_migrated_tables_are_used_and_looked_at_once(world: World) -> None:
    world.migrate()
    assert not world.store.check()
    looks = len(world.statements)
    world.now_s += 1000
    assert not world.store.check()
    assert len(world.statements) == looks
    world.ledger.register({"d0": 1})
    assert any("fate_device" in statement for statement in world.statements[looks:])


def test_without_tables_a_standby_serves_and_the_warning_says_what_to_do(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert world.store.check()
    assert "no such table: fate_" in world.store.failure
    assert "run `airflow db migrate`" in caplog.text
    world.ledger.register({"d0": 1})
    assert world.ledger.live() == []
    assert History(world.store.connect).of_dags(["dag"]) == {}


@pytest.mark.parametrize("table", list(metadata.tables))
def test_one_missing_table_is_enough(world: World, table: str) -> None:
    world.migrate()
    world.drop(table)
    assert world.store.check()
    assert table in world.store.failure


def test_tables_of_an_older_migration_are_not_used(world: World) -> None:
    world.migrate()
    with world.engine.begin() as connection:
        connection.execute(text("ALTER TABLE fate_reservation DROP COLUMN facts"))
    assert world.store.check()
    assert "facts" in world.store.failure


def test_once_migrated_the_tables_are_taken_within_the_retry_time(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.store.check()
    world.migrate()
    world.now_s += RETRY_S / 2
    assert not world.store.check()
    world.now_s += RETRY_S
    assert world.store.check()
    assert world.store.failure == ""
    assert "can be used again" in caplog.text
    world.ledger.register({"d0": 1})
    with world.engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fate_device")) == 1


def test_a_failure_that_goes_on_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.store.check()
    world.now_s += RETRY_S
    assert not world.store.check()
    assert caplog.text.count("airflow db migrate") == 1


def test_tables_that_are_lost_while_in_use_are_missed_when_in_doubt(world: World) -> None:
    world.migrate()
    world.store.check()
    world.drop("fate_reservation")
    assert not world.store.check()
    world.store.doubt()
    assert world.store.check()
    assert world.ledger.live() == []


def test_for_a_database_that_is_away_there_is_no_standby(tmp_path: Path) -> None:
    store = Store(lambda: transaction(create_engine(f"sqlite:///{tmp_path / 'no' / 'folder' / 'db'}")))
    with pytest.raises(OperationalError):
        store.check()
    assert store.failure == ""
