"""Is there a connection that leads to the fleet? As tasks and executor look it up."""

from __future__ import annotations

import os
from collections.abc import Callable

from airflow_fate.doctor.finding import Finding, failure, ok, warning
from airflow_fate.executor.runs.connections import CONN_TYPE, Known, look_up
from airflow_fate.messages import DEFAULT_CONN_ID


def check_connection(others: Callable[[], list[str]], find: Callable[[str], Known] = look_up) -> Finding:
    """:param others: further connections of the type."""
    try:
        known = find(DEFAULT_CONN_ID)
    except Exception as error:
        text = f"connection {DEFAULT_CONN_ID!r} can't be looked up: {type(error).__name__}: {error}".partition("\n")[0]
        return failure("connection", text, "see [secrets] backend, and whether Airflow's database can be reached")
    if known.conn_type == CONN_TYPE:
        return ok("connection", f"{DEFAULT_CONN_ID} is of type {CONN_TYPE}")
    if known.conn_type:
        text = f"connection {DEFAULT_CONN_ID!r} is of type {known.conn_type!r}: no task on it runs on the fleet"
        return failure("connection", text, f"make it of type {CONN_TYPE}")
    text = f"no connection {DEFAULT_CONN_ID!r} in environment, secrets backends and database"
    remedy = f"airflow connections add {DEFAULT_CONN_ID} --conn-type {CONN_TYPE}"
    if named := others():
        return warning("connection", f"{text}; {', '.join(named)} are there", f"{remedy}, or name one in llm_conn_id")
    return failure("connection", f"{text}: LLM tasks that name none fail", remedy)


def of_type_fate() -> list[str]:
    """Connections of type ``fate`` in the environment and in the database; secrets backends can't list theirs."""
    from airflow.models.connection import Connection
    from sqlalchemy import select

    from airflow_fate.executor.database import session_scope

    prefix = "AIRFLOW_CONN_"
    names = {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    named = {name for name in names if look_up(name).conn_type == CONN_TYPE}
    try:
        with session_scope() as session:
            named |= set(session.scalars(select(Connection.conn_id).where(Connection.conn_type == CONN_TYPE)))
    except Exception:
        return sorted(named)
    return sorted(named)
