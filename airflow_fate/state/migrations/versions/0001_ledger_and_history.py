"""Ledger of reservations, and task history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from airflow_fate.state.types import name

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


TABLES = ("fate_history", "fate_reservation_device", "fate_reservation", "fate_device")


def upgrade() -> None:
    on_mysql = op.get_context().dialect.name in ("mysql", "mariadb")
    if on_mysql:
        # It can't take back what it made: a migration that failed has left tables, and no version.
        for table in TABLES:
            op.execute(f"DROP TABLE IF EXISTS {table}")
    op.create_table(
        "fate_device",
        sa.Column("id", name(253), primary_key=True),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("used", sa.Integer, nullable=False, server_default="0"),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "fate_reservation",
        sa.Column("id", name(36), primary_key=True),
        sa.Column("ti_id", name(36), nullable=False),
        sa.Column("dag_id", name(250), nullable=False),
        sa.Column("run_id", name(250), nullable=False),
        sa.Column("task_id", name(250), nullable=False),
        sa.Column("map_index", sa.Integer, nullable=False),
        sa.Column("try_number", sa.Integer, nullable=False),
        sa.Column("stage", name(300), nullable=False),
        sa.Column("model", name(250), nullable=False),
        sa.Column("policy", name(40), nullable=False),
        sa.Column("claimed_at", sa.Double, nullable=False),
        sa.Column("prefill_end_at", sa.Double, nullable=False),
        sa.Column("finish_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("outcome", name(40)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("chain", sa.JSON, nullable=False),
        sa.Column("conversation", name(64), nullable=False, server_default=""),
        sa.Column("evict", sa.JSON, nullable=False),
        sa.Column("cost", sa.JSON, nullable=False),
        sa.Column("facts", sa.JSON),
    )
    op.create_index("fate_reservation_run", "fate_reservation", ["dag_id", "run_id"])
    live = sa.text("ended_at IS NULL")
    # MySQL has no partial indexes; the next revision does without.
    if not on_mysql:
        op.create_index(
            "fate_reservation_live",
            "fate_reservation",
            ["ti_id"],
            unique=True,
            postgresql_where=live,
            sqlite_where=live,
        )
    op.create_table(
        "fate_reservation_device",
        sa.Column(
            "reservation_id", name(36), sa.ForeignKey("fate_reservation.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("device_id", name(253), primary_key=True),
        sa.Column("place", name(253), nullable=False),
        sa.Column("node", name(253), nullable=False),
        sa.Column("sequences", sa.Integer, nullable=False),
        sa.Column("prompts", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_index("fate_reservation_device_device", "fate_reservation_device", ["device_id"])
    op.create_table(
        "fate_history",
        sa.Column("dag_id", name(250), primary_key=True),
        sa.Column("task_id", name(250), primary_key=True),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.Double, nullable=False),
        sa.Column("output_tokens", sa.Double, nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
