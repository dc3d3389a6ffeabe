"""What a run costs: whose it was, on which GPU, when models were loaded for it, and when devices were there at all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from airflow_fate.state.types import name

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fate_reservation", sa.Column("tenant", name(250), nullable=False, server_default=""))
    op.add_column("fate_reservation_device", sa.Column("gpu", name(253), nullable=False, server_default=""))
    op.add_column("fate_reservation_device", sa.Column("load_start_at", sa.Double))
    op.add_column("fate_reservation_device", sa.Column("load_end_at", sa.Double))
    op.create_index("fate_reservation_span", "fate_reservation", ["ended_at", "claimed_at"])
    op.drop_index("fate_reservation_ended", "fate_reservation")
    op.create_table(
        "fate_presence",
        sa.Column("device_id", name(253), primary_key=True),
        sa.Column("from_at", sa.Double, primary_key=True),
        sa.Column("until_at", sa.Double, nullable=False),
    )
    op.create_index("fate_presence_until", "fate_presence", ["until_at"])


def downgrade() -> None:
    op.drop_table("fate_presence")
    op.create_index("fate_reservation_ended", "fate_reservation", ["ended_at"])
    op.drop_index("fate_reservation_span", "fate_reservation")
    op.drop_column("fate_reservation_device", "load_end_at")
    op.drop_column("fate_reservation_device", "load_start_at")
    op.drop_column("fate_reservation_device", "gpu")
    op.drop_column("fate_reservation", "tenant")
