"""What did ended tries cost, as a metric? Each scheduler counts those that it has released itself."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from airflow.sdk.observability import stats

from airflow_fate.costs import Amount, Prices, shares, sums

if TYPE_CHECKING:
    from airflow_fate.state.holds import Holds
    from airflow_fate.state.ledger import Reservation

METRIC = "fate.cost.gpu_seconds"
KEPT = 10_000
"""Ended tries that wait to be counted; of more, the oldest are not."""
FACTS_S = 10.0
"""So long after its end, what a try measured has been read: its loads are known."""


class CostCounter:
    """Counts device-seconds by DAG and tenant, in whole seconds: what is left over comes with the next ones."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._ended: deque[tuple[Reservation, float]] = deque(maxlen=KEPT)
        self._counted_s: dict[tuple[str, str], float] = {}

    def ended(self, reservation: Reservation, at: float) -> None:
        """A try has ended, at this time (Unix seconds). Cheap: for the heartbeat."""
        self._ended.append((reservation, at))

    def count(self, now: float) -> None:
        """Count what ended a while ago.

        :raises DBAPIError: when the ledger can't be read; these are then not counted.
        """
        due: list[tuple[Reservation, float]] = []
        while self._ended and self._ended[0][1] <= now - FACTS_S:
            due.append(self._ended.popleft())
        if not due:
            return
        ids = {reservation.id for reservation, _ in due}
        devices = {share.device for reservation, _ in due for share in reservation.shares}
        since = min(reservation.claimed_at for reservation, _ in due)
        found = shares(self._holds.between(since, now, devices), since, now)
        of_these = (share for share in found if share.hold.owner.reservation in ids)
        for payer, amount in sums(of_these, Prices(), lambda owner: ((owner.dag_id, owner.tenant),)).items():
            self._emit(payer, amount)

    def _emit(self, payer: tuple[str, str], amount: Amount) -> None:
        total_s = self._counted_s.get(payer, 0.0) + amount.gpu_s
        whole_s = int(total_s)
        self._counted_s[payer] = total_s - whole_s
        if whole_s:
            dag_id, tenant = payer
            stats.incr(METRIC, whole_s, tags={"dag_id": dag_id, "tenant": tenant})
