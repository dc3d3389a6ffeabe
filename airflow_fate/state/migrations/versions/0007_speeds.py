"""How fast engines proved to be, for each model and GPU, and devices beside their like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from airflow_fate.state.types import name

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fate_law",
        sa.Column("gpu", name(253), primary_key=True),
        sa.Column("model", name(250), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "fate_slowness",
        sa.Column("device_id", name(253), primary_key=True),
        sa.Column("factor", sa.Double, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("fate_slowness")
    op.drop_table("fate_law")
