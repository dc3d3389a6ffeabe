"""What becomes of a transaction? FATE's tables in SQLite, where each commit may meet a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, delete
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from airflow_fate.state.tables import metadata
from tests.faults.simulation.history import Booked
from tests.faults.simulation.process import Crash
from tests.faults.simulation.schedule import Fault

_USED = "SELECT id, used, capacity FROM fate_device ORDER BY id"
_LIVE = """
SELECT r.id, r.ti_id, d.device_id, d.sequences FROM fate_reservation r
JOIN fate_reservation_device d ON d.reservation_id = r.id WHERE r.ended_at IS NULL ORDER BY r.id, d.device_id
"""


def make_engine() -> Engine:
    """A database in memory, with FATE's tables."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    return engine


def clear(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))


def booked(engine: Engine) -> Booked:
    """What the tables say now."""
    with engine.connect() as connection:
        used = {row[0]: (row[1], row[2]) for row in connection.exec_driver_sql(_USED)}
        live: dict[str, tuple[str, dict[str, int]]] = {}
        for name, ti_id, device, sequences in connection.exec_driver_sql(_LIVE):
            live.setdefault(name, (ti_id, {}))[1][device] = sequences
    return Booked(used, live)


@contextmanager
def committing(fault: Fault, stall: Callable[[], None]) -> Iterator[None]:
    """A transaction that is not in SQLite: it happens where the block ends, or not."""
    if fault in (Fault.REFUSED, Fault.AWAY):
        raise _away()
    if fault is Fault.CRASH_BEFORE:
        raise Crash
    yield
    _after(fault, stall)


@contextmanager
def transaction(engine: Engine, fault: Fault, stall: Callable[[], None]) -> Iterator[Connection]:
    """A transaction in SQLite that meets a fault at its commit.

    :raises OperationalError: when it is refused, or done and its answer gets lost.
    :raises Crash: when its process dies, before or after it is done.
    """
    if fault is Fault.AWAY:
        raise _away()
    with engine.connect() as connection, connection.begin() as inner:
        yield connection
        if fault in (Fault.REFUSED, Fault.CRASH_BEFORE):
            inner.rollback()
            raise _away() if fault is Fault.REFUSED else Crash
        inner.commit()
    _after(fault, stall)


def _after(fault: Fault, stall: Callable[[], None]) -> None:
    if fault is Fault.CRASH_AFTER:
        raise Crash
    if fault is Fault.LOST:
        raise _away()
    if fault is Fault.STALLED:
        stall()


def _away() -> OperationalError:
    return OperationalError("COMMIT", None, Exception("the database is away"))
