"""What did a range of time cost, and whom? Read from the tables a day at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_fate.costs import Amount, FleetTime, Owner, Prices, Share, fleet_time, shares, sums
from airflow_fate.costs.days import day_of, days
from airflow_fate.state.holds import Holds
from airflow_fate.state.ledger import Connect, Reservation
from airflow_fate.state.presence import Presence


@dataclass(frozen=True, slots=True)
class Grouping:
    """By what costs are added up.

    :param names: of the key's parts.
    :param key: of an owner, and of the day (``2026-01-31``, UTC) on which it spent.
    """

    names: tuple[str, ...]
    key: Callable[[Owner, str], tuple[str, ...]]


GROUPINGS: Mapping[str, Grouping] = {
    "dag": Grouping(("dag",), lambda owner, day: (owner.dag_id,)),
    "run": Grouping(("dag", "run"), lambda owner, day: (owner.dag_id, owner.run_id)),
    "task": Grouping(("dag", "task"), lambda owner, day: (owner.dag_id, owner.task_id)),
    "tenant": Grouping(("tenant",), lambda owner, day: (owner.tenant,)),
    "model": Grouping(("model",), lambda owner, day: (owner.model,)),
    "day": Grouping(("day",), lambda owner, day: (day,)),
}


@dataclass(frozen=True, slots=True)
class CostReport:
    """What a range of time cost.

    :param rows: in the order of days, or the dearest first.
    :param total: of all rows.
    """

    grouping: Grouping
    rows: tuple[tuple[tuple[str, ...], Amount], ...]
    total: Amount
    fleet: FleetTime

    def to_json(self) -> dict[str, Any]:
        """As plain values; idle time is nobody's."""
        return {
            "rows": [dict(zip(self.grouping.names, key, strict=True)) | _amount(amount) for key, amount in self.rows],
            "total": _amount(self.total),
            "fleet": {
                "busy_gpu_s": self.fleet.busy_s,
                "idle_gpu_s": self.fleet.idle_s,
                "fleet_gpu_s": self.fleet.fleet_s,
            },
        }


def cost_report(connect: Connect, prices: Prices, by: str, since: float, until: float) -> CostReport:
    """Costs between two times, Unix seconds. What goes on counts until then.

    :param by: one of ``GROUPINGS``.
    :raises DBAPIError: when the tables can't be read.
    """
    grouping = GROUPINGS[by]
    amounts: dict[tuple[str, ...], Amount] = {}
    fleet = FleetTime()
    for begin_at, end_at in days(since, until):
        day = datetime.fromtimestamp(day_of(begin_at), UTC).date().isoformat()
        holds = Holds(connect).between(begin_at, end_at)
        fleet += fleet_time(holds, Presence(connect).between(begin_at, end_at), begin_at, end_at)
        found = _by_key(shares(holds, begin_at, end_at), prices, grouping, day)
        for key, amount in found.items():
            amounts[key] = amounts.get(key, Amount()) + amount
    rows = sorted(amounts.items(), key=lambda row: row[0] if by == "day" else (-row[1].gpu_s, row[0]))
    return CostReport(grouping, tuple(rows), sum(amounts.values(), Amount()), fleet)


def placement_costs(
    connect: Connect, prices: Prices, reservations: Sequence[Reservation], now: float
) -> dict[str, Amount]:
    """Reservation id -> what it cost, until now where it goes on.

    :param reservations: of one run, say; what others held beside them is read here.
    :raises DBAPIError: when the tables can't be read.
    """
    amounts = {reservation.id: Amount() for reservation in reservations}
    devices = {share.device for reservation in reservations for share in reservation.shares}
    since = min((reservation.claimed_at for reservation in reservations), default=now)
    until = max((now if held.ended_at is None else held.ended_at for held in reservations), default=now)
    for begin_at, end_at in days(since, until):
        found = shares(Holds(connect).between(begin_at, end_at, devices), begin_at, end_at)
        of_these = (share for share in found if share.hold.owner.reservation in amounts)
        for key, amount in sums(of_these, prices, lambda owner: (owner.reservation,)).items():
            amounts[key] += amount
    return amounts


def _by_key(found: Sequence[Share], prices: Prices, grouping: Grouping, day: str) -> dict[tuple[str, ...], Amount]:
    return sums(found, prices, lambda owner: (grouping.key(owner, day),))


def _amount(amount: Amount) -> dict[str, float | None]:
    return {"gpu_s": amount.gpu_s, "load_gpu_s": amount.load_s, "money": amount.money}
