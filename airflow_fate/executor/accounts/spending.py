"""What has been spent today, and by runs? Sums that are carried on: only what is recent is read again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_fate.costs import Account, Amount, Owner, Payer, Prices, accounts_of, shares, sums
from airflow_fate.costs.days import day_of, days

if TYPE_CHECKING:
    from airflow_fate.state.holds import Holds

SETTLED_S = 600.0
"""What was held longer ago is not read again. A load of which a try tells later than this is shared as other time."""

Run = tuple[str, str]
"""(dag id, run id)"""


@dataclass(frozen=True)
class Spent:
    """What has been spent.

    :param day_at: midnight (UTC) of the day that the sums are of, Unix seconds.
    :param runs: whose accounts have also what was spent before that day.
    """

    day_at: float
    amounts: dict[Account, Amount]
    runs: frozenset[Run]


class Spending:
    """Adds up what the ledger says."""

    def __init__(self, holds: Holds, prices: Prices) -> None:
        self._holds = holds
        self._prices = prices
        self._day_at = self._settled_until = -1.0
        self._settled: dict[Account, Amount] = {}
        self._before: dict[Run, dict[Account, Amount]] = {}

    def until(self, now: float, runs: Collection[Run]) -> Spent:
        """What has been spent until now, Unix seconds; what goes on counts as far as it has come.

        :param runs: those of which all must be known, also what they spent before today.
        :raises DBAPIError: when the ledger can't be read.
        """
        day_at = day_of(now)
        if day_at != self._day_at:
            self._day_at = self._settled_until = day_at
            self._settled, self._before = {}, {}
        if (settle_until := now - SETTLED_S) > self._settled_until:
            _add(self._settled, self._between(self._settled_until, settle_until))
            self._settled_until = settle_until
        before = {run: amounts for run, amounts in self._before.items() if run in runs}
        firsts = self._holds.first_claims([run for run in runs if run not in before])
        for run in runs:
            if run not in before:
                before[run] = self._of_run(run, firsts.get(run, day_at), day_at)
        self._before = before
        amounts = dict(self._settled)
        for part in (self._between(self._settled_until, now), *before.values()):
            _add(amounts, part)
        return Spent(day_at, amounts, frozenset(runs))

    def _between(self, since: float, until: float) -> dict[Account, Amount]:
        found = shares(self._holds.between(since, until), since, until)
        return sums(found, self._prices, _accounts)

    def _of_run(self, run: Run, since: float, until: float) -> dict[Account, Amount]:
        """What a run spent in earlier days, on its own accounts."""
        amounts: dict[Account, Amount] = {}
        for begin_at, end_at in days(since, until):
            part = self._between(begin_at, end_at)
            _add(amounts, {account: part[account] for account in part if (account.dag_id, account.run_id) == run})
        return amounts


def _accounts(owner: Owner) -> Iterator[Account]:
    return accounts_of(Payer(owner.dag_id, owner.run_id, owner.tenant))


def _add(amounts: dict[Account, Amount], part: Mapping[Account, Amount]) -> None:
    """In place: there are many accounts, and most of them don't change."""
    for account, amount in part.items():
        amounts[account] = amounts.get(account, Amount()) + amount
