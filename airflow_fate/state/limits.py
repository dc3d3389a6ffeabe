"""How long may the database keep a heartbeat waiting? A second for a lock, and somewhat more for a whole statement.

A scheduler whose heartbeat stays away for half a minute is taken for dead, and all that it runs with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

LOCK_S = 1
STATEMENT_S = 5


@contextmanager
def bounded(transaction: Connection | Session) -> Iterator[None]:
    """Inside, what waits for longer raises OperationalError. SQLite's own limit is left as it is."""
    bind = transaction.get_bind() if hasattr(transaction, "get_bind") else transaction
    match bind.dialect.name:
        case "postgresql":
            # Until the transaction ends.
            transaction.execute(text(f"SET LOCAL lock_timeout = '{LOCK_S}s'"))
            transaction.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_S}s'"))
            yield
        case "mysql":
            # For the session, which others use after us.
            transaction.execute(text(f"SET SESSION innodb_lock_wait_timeout = {LOCK_S}, lock_wait_timeout = {LOCK_S}"))
            try:
                yield
            finally:
                transaction.execute(text("SET SESSION innodb_lock_wait_timeout = DEFAULT, lock_wait_timeout = DEFAULT"))
        case _:
            yield
