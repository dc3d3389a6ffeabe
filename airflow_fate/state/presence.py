"""Which devices were there, and when? Schedulers note it now and then, so that idle time can be told."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, insert, select, update

from airflow_fate.costs import Interval
from airflow_fate.state.ledger import CHUNK, Connect
from airflow_fate.state.tables import presence

NOTED_EVERY_S = 30.0
GAP_S = 3 * NOTED_EVERY_S
"""A device that nobody has noted for so long was away meanwhile."""


class Presence:
    """Notes and reads when devices were there."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def note(self, devices: Collection[str], now: float) -> None:
        """These are there now.

        Two schedulers may both note the first time of a device: rows may overlap.
        """
        # One that a clock has noted which ran ahead is left as it is: this time is not in it.
        goes_on = (presence.c.until_at >= now - GAP_S) & (presence.c.from_at <= now)
        with self._connect() as connection:
            known = set(connection.scalars(select(presence.c.device_id).where(goes_on)))
            here = sorted(known.intersection(devices))
            for start in range(0, len(here), CHUNK):
                chunk = here[start : start + CHUNK]
                connection.execute(
                    update(presence)
                    .where(goes_on, presence.c.until_at < now, presence.c.device_id.in_(chunk))
                    .values(until_at=now)
                )
            if new := sorted(set(devices) - known):
                rows = [{"device_id": device, "from_at": now, "until_at": now} for device in new]
                connection.execute(insert(presence), rows)

    def between(self, since: float, until: float) -> list[tuple[str, Interval]]:
        """(device, when it was there), for those that were in this range."""
        with self._connect() as connection:
            rows = connection.execute(
                select(presence).where(presence.c.until_at > since, presence.c.from_at < until)
            ).all()
        return [(row.device_id, Interval(row.from_at, row.until_at)) for row in rows]

    def prune(self, before: float) -> None:
        """Forget what ended before then."""
        with self._connect() as connection:
            connection.execute(delete(presence).where(presence.c.until_at < before))
