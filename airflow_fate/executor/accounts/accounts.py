"""May a held task still spend? Budgets against sums that a thread reads again now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_fate.costs import Action, Budget, Overdraft, Payer, Prices, overdraft
from airflow_fate.costs.days import day_of
from airflow_fate.executor.accounts.counter import CostCounter
from airflow_fate.executor.accounts.spending import Run, Spending, Spent

if TYPE_CHECKING:
    from airflow_fate.state.holds import Holds

log = logging.getLogger(__name__)
REFRESH_S = 10.0
PART_OF_TIME = 0.05
"""Reading takes no more of the time than this, however much there is to read."""
STOP_S = 5.0
NOT_KNOWN = "what was spent of its budget ([fate] budgets) is being looked up"


class Accounts:
    """Sums of what was spent, and the budgets that they count against.

    :param clock: Unix seconds.
    """

    def __init__(
        self, budgets: Sequence[Budget], prices: Prices, holds: Holds, clock: Callable[[], float] = time.time
    ) -> None:
        self._budgets = budgets
        self._spending = Spending(holds, prices)
        self._clock = clock
        self.counter = CostCounter(holds)
        self._spent: Spent | None = None
        self._wanted: frozenset[Run] = frozenset()
        self._warned: frozenset[Payer] = frozenset()
        self._trouble = ""
        self.version = 0
        """Grows when tasks may be judged otherwise than before."""
        self._wake = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="fate-accounts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def judge(self, payers: Mapping[str, Payer], now: float) -> dict[str, Overdraft]:
        """Try -> the budget that is used up, for those of which one is, or of which it isn't known yet. Reads nothing.

        :param payers: who pays for each of the held tries; all of them, so that what others spent is forgotten.
        """
        if not self._budgets:
            return {}
        budgets_of = {
            payer: [budget for budget in self._budgets if budget.account(payer)] for payer in set(payers.values())
        }
        by_run = {payer for payer, budgets in budgets_of.items() if any(budget.per == "run" for budget in budgets)}
        self._wanted = frozenset((payer.dag_id, payer.run_id) for payer in by_run)
        spent = self._spent
        found: dict[Payer, Overdraft] = {}
        for payer, budgets in budgets_of.items():
            is_known = (
                spent is not None
                and spent.day_at == day_of(now)
                and (payer not in by_run or (payer.dag_id, payer.run_id) in spent.runs)
            )
            if spent is not None and is_known:
                if over := overdraft(budgets, payer, spent.amounts):
                    found[payer] = over
            elif any(budget.action is not Action.WARN for budget in budgets):
                self._wake.set()
                found[payer] = Overdraft(Action.HOLD, ": ".join(filter(None, (NOT_KNOWN, self._trouble))))
        self._warn(found)
        return {ti_id: found[payer] for ti_id, payer in payers.items() if payer in found}

    def refresh(self) -> None:
        """Read again what was spent, and count what has ended.

        :raises DBAPIError: when the ledger can't be read.
        """
        now = self._clock()
        if self._budgets:
            self._spent = self._spending.until(now, self._wanted)
            self.version += 1
        self.counter.count(now)

    def _warn(self, found: Mapping[Payer, Overdraft]) -> None:
        over = {payer: each.reason for payer, each in found.items() if each.action is Action.WARN}
        for payer in over.keys() - self._warned:
            log.warning("%s", over[payer])
        self._warned = frozenset(over)

    def _run(self) -> None:
        while not self._is_stopped:
            self._wake.clear()
            began_s = time.monotonic()
            try:
                self.refresh()
                self._trouble = ""
            except Exception as error:
                trouble = str(getattr(error, "orig", error)).strip().partition("\n")[0]
                if trouble != self._trouble:
                    log.warning("What was spent can't be read: %s", trouble)
                self._trouble = trouble
            self._wake.wait(max(REFRESH_S, (time.monotonic() - began_s) / PART_OF_TIME))
