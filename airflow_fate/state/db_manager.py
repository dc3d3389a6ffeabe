"""How do FATE's tables come into Airflow's database? Airflow's external database managers: ``airflow db migrate`` does
it all.
"""

from __future__ import annotations

from pathlib import Path

from airflow.utils.db_manager import BaseDBManager

from airflow_fate.state.tables import metadata

_HERE = Path(__file__).parent


class FateDBManager(BaseDBManager):
    """Creates and migrates the ``fate_`` tables with Alembic, under a version table of their own."""

    metadata = metadata
    version_table_name = "fate_alembic_version"
    migration_dir = str(_HERE / "migrations")
    alembic_file = str(_HERE / "alembic.ini")
    supports_table_dropping = True
    revision_heads_map = {"0.1.0": "0007"}  # noqa: RUF012

    def create_db_from_orm(self) -> None:
        """Create the tables through the migrations: one way in, for new and old databases."""
        from alembic import command

        command.upgrade(self.get_alembic_config(), "heads")
