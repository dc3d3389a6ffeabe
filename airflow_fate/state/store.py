"""Where do ledger and history lie? In Airflow's database; while FATE's tables can't be used there, in memory.

So tasks run even where nobody has migrated yet: on what this scheduler alone knows, without fences, with a warning.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from airflow_fate.state.ledger import DATABASE_AWAY, Connect, transaction
from airflow_fate.state.tables import metadata

log = logging.getLogger(__name__)
RETRY_S = 15.0
"""How often an unusable database is asked again."""


class Store:
    """Opens transactions where FATE's tables can be used.

    :param database: opens a transaction on Airflow's database.
    :param clock: monotonic seconds.
    """

    def __init__(self, database: Connect, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._standby: Engine | None = None
        self._check_at = clock()
        self.failure = ""
        """Why the database's tables aren't used; empty while they are."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A transaction: on Airflow's database, or on the standby in memory."""
        with transaction(self._standby) if self._standby else self._database() as connection:
            yield connection

    def doubt(self) -> None:
        """Something failed in the database: look at the tables before they are used again."""
        self._check_at = self._clock()

    def check(self) -> bool:
        """Look at the tables when that is due; True when others are used from now on.

        :raises DBAPIError: when Airflow's database as a whole can't be reached, for which there is no standby.
        """
        if self._clock() < self._check_at:
            return False
        failure = find_failure(self._database)
        self._check_at = self._clock() + RETRY_S if failure else float("inf")
        before, self.failure = self.failure, failure
        if bool(failure) == bool(before):
            return False
        if failure:
            log.warning(
                "%s. Until then this scheduler keeps its reservations in memory, and tasks run unfenced.", failure
            )
            self._standby = in_memory()
        else:
            log.warning("FATE's tables can be used again.")
            assert self._standby is not None
            self._standby.dispose()
            self._standby = None
        return True


def find_failure(database: Connect) -> str:
    """Why FATE's tables can't be used in a database; empty when they can.

    :raises DBAPIError: when the database can't be reached, or the tables are locked.
    """
    with database() as connection:
        connection.execute(select(1))
    try:
        with database() as connection:
            for table in metadata.sorted_tables:
                connection.execute(select(table).limit(0))
    except DBAPIError as error:
        if isinstance(error, DATABASE_AWAY) and _are_there(database):
            # A lock, or a slow moment: reservations must not move into memory for it.
            raise
        reason = str(error.orig).strip().partition("\n")[0]
        return f"FATE's tables in Airflow's database can't be used ({reason}): run `airflow db migrate`"
    return ""


def _are_there(database: Connect) -> bool:
    """Whether the tables have all their columns; the catalogue says so whoever locks them."""
    with database() as connection:
        catalogue = inspect(connection)
        tables = set(catalogue.get_table_names())
        return all(
            table.name in tables
            and {column.name for column in table.columns}
            <= {column["name"] for column in catalogue.get_columns(table.name)}
            for table in metadata.sorted_tables
        )


def in_memory() -> Engine:
    """FATE's tables in this process alone, empty."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    return engine
