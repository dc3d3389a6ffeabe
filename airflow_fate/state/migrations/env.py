"""Runs FATE's migrations on Airflow's own engine, or prints their SQL in offline mode."""

from __future__ import annotations

from airflow import settings
from alembic import context

from airflow_fate.state.tables import metadata

VERSION_TABLE = "fate_alembic_version"


def run_offline() -> None:
    context.configure(
        url=settings.SQL_ALCHEMY_CONN,
        target_metadata=metadata,
        literal_binds=True,
        version_table=VERSION_TABLE,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    assert settings.engine is not None
    with settings.engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=metadata, version_table=VERSION_TABLE, render_as_batch=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
