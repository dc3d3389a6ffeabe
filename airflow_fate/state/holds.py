"""Who held which device, and when? Rows of the ledger as the costs need them, read in pages by their range of time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, and_, func, or_, select

from airflow_fate.costs import Hold, Interval, Owner
from airflow_fate.state.ledger import CHUNK, Connect
from airflow_fate.state.tables import reservation, reservation_device

PAGE = 5000
_ROW = (reservation.c.id, reservation_device.c.device_id)
_COLUMNS: tuple[Column[Any], ...] = (
    *_ROW,
    reservation.c.dag_id,
    reservation.c.run_id,
    reservation.c.task_id,
    reservation.c.tenant,
    reservation.c.model,
    reservation.c.claimed_at,
    reservation.c.ended_at,
    reservation_device.c.gpu,
    reservation_device.c.sequences,
    reservation_device.c.load_start_at,
    reservation_device.c.load_end_at,
)


class Holds:
    """Reads holds.

    :param page: so many rows are read at once, each page in a transaction of its own.
    """

    def __init__(self, connect: Connect, page: int = PAGE) -> None:
        self._connect = connect
        self._page = page

    def between(self, since: float, until: float, devices: Collection[str] | None = None) -> list[Hold]:
        """What was held at any time of a range. Those that go on end at infinity.

        :param since: Unix seconds, as ``until``.
        :param devices: only of these.
        """
        query = (
            select(*_COLUMNS)
            .join(reservation_device, reservation_device.c.reservation_id == reservation.c.id)
            .where(reservation.c.claimed_at < until)
        )
        # Of more devices than fit into a statement, all are read.
        if devices is not None and len(devices) <= CHUNK:
            query = query.where(reservation_device.c.device_id.in_(devices))
        # What lives comes first: what ends between two pages is then read twice, and counted once.
        with self._connect() as connection:
            rows = list(connection.execute(query.where(reservation.c.ended_at.is_(None))))
        order = (reservation.c.ended_at, *_ROW)
        after: ColumnElement[bool] = reservation.c.ended_at > since
        while True:
            with self._connect() as connection:
                page = connection.execute(query.where(after).order_by(*order).limit(self._page)).all()
            rows += page
            if len(page) < self._page:
                return list({(row.id, row.device_id): _hold(row) for row in rows}.values())
            after = _behind(page[-1])

    def first_claims(self, runs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """(dag id, run id) -> when something of the run was first claimed, of those that had anything."""
        run = (reservation.c.dag_id, reservation.c.run_id)
        found: dict[tuple[str, str], float] = {}
        for start in range(0, len(runs), CHUNK):
            these = or_(*(and_(run[0] == dag_id, run[1] == run_id) for dag_id, run_id in runs[start : start + CHUNK]))
            with self._connect() as connection:
                rows = connection.execute(select(*run, func.min(reservation.c.claimed_at)).where(these).group_by(*run))
                found |= {(dag_id, run_id): at for dag_id, run_id, at in rows}
        return found


def _behind(row: Row[Any]) -> ColumnElement[bool]:
    """What comes after a row in the order of time, reservation and device."""
    ended_at, (id_, device) = reservation.c.ended_at, _ROW
    return or_(
        ended_at > row.ended_at,
        and_(ended_at == row.ended_at, or_(id_ > row.id, and_(id_ == row.id, device > row.device_id))),
    )


def _hold(row: Row[Any]) -> Hold:
    owner = Owner(row.id, row.dag_id, row.run_id, row.task_id, row.tenant, row.model)
    end_at = math.inf if row.ended_at is None else row.ended_at
    load = None if row.load_end_at is None else Interval(row.load_start_at, row.load_end_at)
    return Hold(owner, row.device_id, row.gpu, row.sequences, Interval(row.claimed_at, end_at), load)
