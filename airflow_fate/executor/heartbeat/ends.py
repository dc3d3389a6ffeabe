"""What follows when a try has ended? Its devices are given back, first and always.

What it measured is read afterwards, as far as the heartbeat's time goes: it may be wrong, late, or unreadable.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_fate.executor.heartbeat.backoff import OutlierBackoff
from airflow_fate.executor.heartbeat.handover import TaskAddress, read_facts
from airflow_fate.executor.planning.snapshot import broken
from airflow_fate.state.ledger import DATABASE_AWAY

if TYPE_CHECKING:
    from airflow_fate.executor.accounts.counter import CostCounter
    from airflow_fate.executor.cycle import Cycle
    from airflow_fate.executor.heartbeat.budget import Budget
    from airflow_fate.executor.heartbeat.notifier import EndNotifier
    from airflow_fate.executor.runs.run_cache import RunCache
    from airflow_fate.executor.settings import Settings
    from airflow_fate.messages import Facts
    from airflow_fate.state.ledger import Ledger, Reservation
    from airflow_fate.state.source import FleetView

log = logging.getLogger(__name__)
KEPT = 10_000
"""Ended reservations whose facts wait to be read; more are not learned from."""


class Ends:
    """Ends reservations, and learns from them."""

    def __init__(
        self, settings: Settings, ledger: Ledger, run_cache: RunCache, notifier: EndNotifier, counter: CostCounter
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._run_cache = run_cache
        self._notifier = notifier
        self._counter = counter
        self._unread: deque[tuple[Reservation, str, float]] = deque(maxlen=KEPT)
        """Ended reservations with outcome and time, whose facts are still to be read."""
        self._broken: frozenset[str] = frozenset()
        """Reservations of which it is known that their group has lost a member."""
        self.backoff = OutlierBackoff()

    def release(self, reservation: Reservation, outcome: str, cycle: Cycle) -> None:
        """Give the devices of an ended try back.

        :raises DBAPIError: when the ledger can't be reached.
        """
        if not self._ledger.release(reservation.id, outcome):
            return
        self._run_cache.ended(reservation, outcome)
        self._unread.append((reservation, outcome, cycle.now))
        self._counter.ended(reservation, cycle.now)
        if outcome != "success":
            # Its process may live on somewhere, and its request with it.
            self._tell_gateways(reservation, cycle.view)

    def break_off(self, cycle: Cycle) -> None:
        """Fail the tries whose group is no longer whole: an engine that has lost a member may hang instead of failing.

        Their reservations end as any other's, when the database says that the try has.
        """
        lost = {reservation.id: reservation for reservation in broken(cycle.view, cycle.live)}
        for reservation in lost.values():
            if reservation.id not in self._broken:
                log.warning("%s: %s has lost a member", TaskAddress.of(reservation), reservation.shares[0].place)
                self._tell_gateways(reservation, cycle.view, "its group has lost a member")
        self._broken = frozenset(lost)

    def learn(self, view: FleetView, budget: Budget) -> None:
        """Read what ended tries measured, of one at least; what is wrong with it, or the store, costs nobody else."""
        while self._unread:
            reservation, outcome, ended_at = self._unread.popleft()
            with apart(f"learning from {TaskAddress.of(reservation)}", and_database=True):
                facts = read_facts(reservation, self._settings.secret())
                if facts:
                    self._ledger.record_facts(reservation.id, [fact.model_dump() for fact in facts])
                    self._take_in(reservation, outcome, facts, view, ended_at)
            if budget.is_spent:
                return

    def _tell_gateways(self, reservation: Reservation, view: FleetView, why: str = "") -> None:
        """Have the reservation refused from now on, and what it has in flight broken off."""
        urls = [view.urls[share.device] for share in reservation.shares if share.device in view.urls]
        self._notifier.ended(urls, reservation.id, self._settings.secret(), why)

    def _take_in(
        self, reservation: Reservation, outcome: str, facts: tuple[Facts, ...], view: FleetView, ended_at: float
    ) -> None:
        if outcome == "success":
            self._run_cache.learn(reservation, facts, view.fleet, ended_at)
        for fact in facts:
            if fact.fault:
                text = "%s gets nothing for a while: it could not serve %s (%s)"
                log.warning(text, fact.device, TaskAddress.of(reservation), fact.fault)
        self.backoff = self.backoff.after(facts, view, ended_at)


@contextmanager
def apart(what: str, and_database: bool = False) -> Iterator[None]:
    """What goes wrong with this task costs no other one.

    :param and_database: also what the others would meet, too: a database that is away.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DATABASE_AWAY) and not and_database:
            raise
        log.warning("%s failed: %r", what, error, exc_info=True)
