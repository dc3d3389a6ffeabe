"""The ledger against its model, on each database that Airflow may have."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import create_engine, make_url, text

from airflow_fate.state.tables import metadata
from tests.faults.ledger_machine import machine_on


@pytest.mark.parametrize(("database", "examples"), [("sqlite", 400), ("postgres", 100), ("mariadb", 60)])
def test_the_ledger_does_what_its_model_does(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, examples: int
) -> None:
    if database == "sqlite":
        url = f"sqlite:///{tmp_path / 'fate.db'}"
    else:
        server, name = make_url(request.getfixturevalue(database)), f"fate_{secrets.token_hex(4)}"
        with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = server.set(database=name).render_as_string(hide_password=False)
    engine = create_engine(url)
    metadata.create_all(engine)
    limits = settings(max_examples=examples, stateful_step_count=40, deadline=None, print_blob=True)
    run_state_machine_as_test(machine_on(engine), settings=limits)
    engine.dispose()
