"""A lock that somebody else holds costs the heartbeat a moment and one task its place, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, select, text, update
from sqlalchemy.exc import OperationalError

from airflow_fate.state.tables import device, metadata
from tests.unit.executor.scheduler import DEVICES, World

pytestmark = [pytest.mark.integration, pytest.mark.postgres]


@pytest.fixture
def engine(postgres: str) -> Iterator[Engine]:
    """A database with FATE's tables, in a schema of its own."""
    base = create_engine(postgres)
    with base.begin() as connection:
        connection.execute(text("CREATE SCHEMA waits"))
    engine = create_engine(postgres, connect_args={"options": "-csearch_path=waits"})
    metadata.create_all(engine)
    yield engine
    engine.dispose()
    with base.begin() as connection:
        connection.execute(text("DROP SCHEMA waits CASCADE"))
    base.dispose()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> World:
    world = World(monkeypatch, engine)
    world.ledger.register(dict.fromkeys(DEVICES, 1))
    return world


def test_a_locked_device_keeps_no_task_from_another_one(world: World, engine: Engine) -> None:
    for number in range(len(DEVICES)):
        world.hold(f"task-{number}")
    with engine.begin() as other:
        other.execute(update(device).where(device.c.id == "d0").values(capacity=1))
        world.cycle()
        assert len(world.bound) == len(DEVICES) - 1
        assert len(world.held) == 1
    world.cycle()
    assert len(world.bound) == len(DEVICES)
    assert world.ledger.audit() == {}


def test_a_heartbeat_ends_while_the_tables_are_locked(world: World, engine: Engine) -> None:
    world.hold("task")
    with engine.begin() as other:
        other.execute(text("LOCK TABLE fate_reservation IN ACCESS EXCLUSIVE MODE"))
        # That this returns is what is shown: the lock is held until it has.
        with pytest.raises(OperationalError, match="lock timeout"):
            world.cycle()
    world.cycle()
    assert world.bound == {"task"}


def test_others_of_the_same_pool_wait_as_long_as_they_like(world: World, engine: Engine) -> None:
    world.cycle()
    with engine.connect() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "0"
        assert connection.execute(select(device.c.id)).all()
