"""One live reservation of a try, by a column that is null once it has ended.

A unique index on that says on every database what a partial index says on some.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from airflow_fate.state.types import name

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LIVE = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.add_column("fate_reservation", sa.Column("live_ti_id", name(36)))
    op.execute("UPDATE fate_reservation SET live_ti_id = ti_id WHERE ended_at IS NULL")
    op.create_index("fate_reservation_live_try", "fate_reservation", ["live_ti_id"], unique=True)
    if op.get_context().dialect.name not in ("mysql", "mariadb") or _made_by_mariadb():
        op.drop_index("fate_reservation_live", "fate_reservation")


def _made_by_mariadb() -> bool:
    """Early releases asked every database for the partial index, and MariaDB made it a whole one."""
    if op.get_context().as_sql:
        return False
    return "fate_reservation_live" in {
        index["name"] for index in sa.inspect(op.get_bind()).get_indexes("fate_reservation")
    }


def downgrade() -> None:
    if op.get_context().dialect.name not in ("mysql", "mariadb"):
        op.create_index(
            "fate_reservation_live",
            "fate_reservation",
            ["ti_id"],
            unique=True,
            postgresql_where=_LIVE,
            sqlite_where=_LIVE,
        )
    op.drop_index("fate_reservation_live_try", "fate_reservation")
    op.drop_column("fate_reservation", "live_ti_id")
