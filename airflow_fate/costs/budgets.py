"""May this task still spend? Budgets by DAG and tenant, per run and per day, against what has been spent. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from airflow_fate.costs.amounts import Amount

EACH = "*"
"""A budget with this name is for each DAG, or tenant, by itself."""
FORM = (
    "a JSON list of objects with `dag` or `tenant` (a name, or * for each by itself), `per` (run or day), "
    "`gpu_seconds` or `money` (a number >= 0) and `action` (warn, hold or fail)"
)


class Action(StrEnum):
    """What becomes of a task whose budget is used up; the later ones are the stronger ones."""

    WARN = "warn"
    HOLD = "hold"
    FAIL = "fail"


class Payer(NamedTuple):
    """Whose budgets a task counts against; ``tenant`` may be empty."""

    dag_id: str
    run_id: str
    tenant: str


class Account(NamedTuple):
    """Under what is spent: a DAG's or a tenant's day, or its part of one run.

    :param kind: ``dag`` or ``tenant``.
    :param dag_id: of the run, as ``run_id``; both are empty for a day.
    """

    kind: str
    name: str
    dag_id: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent.

    :param kind: ``dag`` or ``tenant``.
    :param name: of the DAG or tenant, or ``*``.
    :param per: ``run`` or ``day``; a day is one of the calendar in UTC.
    :param unit: ``gpu_seconds`` or ``money``.
    """

    kind: str
    name: str
    per: str
    limit: float
    unit: str
    action: Action

    def account(self, payer: Payer) -> Account | None:
        """Where the payer's spending for this budget stands; None where the budget is not for this payer."""
        name = payer.dag_id if self.kind == "dag" else payer.tenant
        if not name or self.name not in (EACH, name):
            return None
        return Account(self.kind, name, payer.dag_id, payer.run_id) if self.per == "run" else Account(self.kind, name)

    def spent(self, amount: Amount) -> float | None:
        """An amount in the budget's unit; None where that has no price."""
        return amount.money if self.unit == "money" else amount.gpu_s


@dataclass(frozen=True, slots=True)
class Overdraft:
    """A budget is used up: what follows for the task, and why."""

    action: Action
    reason: str


def accounts_of(payer: Payer) -> Iterator[Account]:
    """All accounts on which something stands that this payer spends."""
    for kind, name in (("dag", payer.dag_id), ("tenant", payer.tenant)):
        if name:
            yield Account(kind, name)
            yield Account(kind, name, payer.dag_id, payer.run_id)


def overdraft(budgets: Iterable[Budget], payer: Payer, spent: Mapping[Account, Amount]) -> Overdraft | None:
    """The strongest of the payer's budgets that are used up. Money that has no price uses no budget up."""
    found = []
    for budget in budgets:
        if (account := budget.account(payer)) is None:
            continue
        value = budget.spent(spent.get(account, Amount()))
        if value is not None and value >= budget.limit:
            found.append(Overdraft(budget.action, _reason(budget, account, value)))
    return max(found, key=lambda each: list(Action).index(each.action), default=None)


def _reason(budget: Budget, account: Account, value: float) -> str:
    what = {"dag": "DAG", "tenant": "tenant"}[account.kind]
    whose = f"run {account.run_id!r} of DAG {account.dag_id!r}" if budget.per == "run" else f"{what} {account.name!r}"
    part = f" for tenant {account.name!r}" if (account.kind, budget.per) == ("tenant", "run") else ""
    when = "" if budget.per == "run" else " today (UTC)"
    unit = "GPU-seconds" if budget.unit == "gpu_seconds" else "in money"
    waits = {"run": "until somebody raises that", "day": "for the next day (UTC)"}[budget.per]
    follows = {Action.WARN: "", Action.HOLD: f"; it waits {waits}", Action.FAIL: "; it gets no device"}[budget.action]
    return f"{whose} has spent {value:.2f}{part}{when} of the {budget.limit:g} {unit} of [fate] budgets{follows}"


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """Read ``[fate] budgets``; empty is none.

    :raises ValueError: with the place and the expected form.
    """
    if not text.strip():
        return ()
    try:
        rows = json.loads(text)
    except ValueError:
        raise ValueError(f"must be {FORM}, got {text!r}") from None
    if not isinstance(rows, list):
        raise ValueError(f"must be {FORM}, got {text!r}")
    return tuple(_budget(row) for row in rows)


def _budget(row: Any) -> Budget:
    wrong = ValueError(f"must be {FORM}, got {row!r}")
    if not isinstance(row, dict) or len(row) != 4:
        raise wrong
    kinds, units = row.keys() & {"dag", "tenant"}, row.keys() & {"gpu_seconds", "money"}
    if len(kinds) != 1 or len(units) != 1 or row.keys() - kinds - units != {"per", "action"}:
        raise wrong
    (kind,), (unit,) = kinds, units
    name, limit, per, action = row[kind], row[unit], row["per"], row["action"]
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 <= limit < math.inf
    if not (isinstance(name, str) and name and is_number and per in ("run", "day") and action in list(Action)):
        raise wrong
    return Budget(kind, name, per, limit, unit, Action(action))
