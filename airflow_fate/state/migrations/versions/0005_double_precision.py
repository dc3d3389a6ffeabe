"""Times and token counts in double precision, also in tables that early releases made on MariaDB.

SQLAlchemy's Float is single precision there, which tells today's times to two minutes only.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = {
    "fate_reservation": ("claimed_at", "prefill_end_at", "finish_at", "ended_at"),
    "fate_history": ("prompt_tokens", "output_tokens", "duration_s"),
}


def upgrade() -> None:
    if op.get_context().dialect.name not in ("mysql", "mariadb"):
        return
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.alter_column(table, column, type_=sa.Double(), existing_nullable=column == "ended_at")


def downgrade() -> None:
    """Nothing: the release before makes these columns as they are now."""
