"""How is Airflow's database reached? By transactions and sessions of our own, in which nothing waits for long.

All of this happens in the heartbeat, never inside the scheduler's own transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_fate.state.limits import bounded

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session


@contextmanager
def connect() -> Iterator[Connection]:
    """A transaction, which commits when the block ends well."""
    from airflow import settings

    assert settings.engine is not None
    with settings.engine.begin() as connection, bounded(connection):
        yield connection


@contextmanager
def session_scope() -> Iterator[Session]:
    """A session, which commits when the block ends well."""
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session, bounded(session):
        yield session


def close_pooled_connections() -> None:
    """Close what the pool holds, so that a process that is forked now inherits no connection."""
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose()
