"""What has ended is found by when, and what is live by not having ended, however many have.

The index by device led to all that a device ever had, to look for the few that it has now.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("fate_reservation_ended", "fate_reservation", ["ended_at"])
    op.drop_index("fate_reservation_device_device", "fate_reservation_device")


def downgrade() -> None:
    op.create_index("fate_reservation_device_device", "fate_reservation_device", ["device_id"])
    op.drop_index("fate_reservation_ended", "fate_reservation")
