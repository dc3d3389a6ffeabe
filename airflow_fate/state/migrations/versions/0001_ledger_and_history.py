"""Ledger of reservations, and task history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fate_device",
        sa.Column("id", sa.String(253), primary_key=True),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("used", sa.Integer, nullable=False, server_default="0"),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "fate_reservation",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("ti_id", sa.String(36), nullable=False),
        sa.Column("dag_id", sa.String(250), nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("task_id", sa.String(250), nullable=False),
        sa.Column("map_index", sa.Integer, nullable=False),
        sa.Column("try_number", sa.Integer, nullable=False),
        sa.Column("stage", sa.String(300), nullable=False),
        sa.Column("model", sa.String(250), nullable=False),
        sa.Column("policy", sa.String(40), nullable=False),
        sa.Column("claimed_at", sa.Float, nullable=False),
        sa.Column("prefill_end_at", sa.Float, nullable=False),
        sa.Column("finish_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("outcome", sa.String(40)),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("chain", sa.JSON, nullable=False),
        sa.Column("conversation", sa.String(64), nullable=False, server_default=""),
        sa.Column("evict", sa.JSON, nullable=False),
        sa.Column("cost", sa.JSON, nullable=False),
        sa.Column("facts", sa.JSON),
    )
    op.create_index("fate_reservation_run", "fate_reservation", ["dag_id", "run_id"])
    live = sa.text("ended_at IS NULL")
    op.create_index(
        "fate_reservation_live", "fate_reservation", ["ti_id"], unique=True, postgresql_where=live, sqlite_where=live
    )
    op.create_table(
        "fate_reservation_device",
        sa.Column(
            "reservation_id", sa.String(36), sa.ForeignKey("fate_reservation.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("device_id", sa.String(253), primary_key=True),
        sa.Column("place", sa.String(253), nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("sequences", sa.Integer, nullable=False),
        sa.Column("prompts", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_index("fate_reservation_device_device", "fate_reservation_device", ["device_id"])
    op.create_table(
        "fate_history",
        sa.Column("dag_id", sa.String(250), primary_key=True),
        sa.Column("task_id", sa.String(250), primary_key=True),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.Float, nullable=False),
        sa.Column("output_tokens", sa.Float, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
    )


def downgrade() -> None:
    for name in ("fate_history", "fate_reservation_device", "fate_reservation", "fate_device"):
        op.drop_table(name)
