"""A receipt says what a placement cost others, also after months: rows of older releases have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fate_reservation", sa.Column("future_s", sa.Double))


def downgrade() -> None:
    op.drop_column("fate_reservation", "future_s")
