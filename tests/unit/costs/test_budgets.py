"""Whose budget is used up, what follows, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_fate.costs import (
    Account,
    Action,
    Amount,
    Overdraft,
    Payer,
    Prices,
    accounts_of,
    overdraft,
    parse_budgets,
    shares,
    sums,
)
from tests.unit.costs.builders import hold

PAYER = Payer("report", "monday", "finance")


def spent(gpu_s: float, payer: Payer = PAYER) -> dict[Account, Amount]:
    return dict.fromkeys(accounts_of(payer), Amount(gpu_s, 0.0, gpu_s / 100))


def found(gpu_s: float, *rows: dict[str, Any], payer: Payer = PAYER) -> Overdraft | None:
    return overdraft(parse_budgets(json.dumps(rows)), payer, spent(gpu_s))


def row(**fields: Any) -> dict[str, Any]:
    return {"per": "day", "action": "hold"} | fields


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"dag": "report", "gpu_seconds": 60},
            "DAG 'report' has spent 60.00 today (UTC) of the 60 GPU-seconds of [fate] budgets; it waits for the next "
            "day (UTC)",
        ),
        (
            {"tenant": "finance", "money": 0.5, "action": "warn"},
            "tenant 'finance' has spent 0.60 today (UTC) of the 0.5 in money of [fate] budgets",
        ),
        (
            {"dag": "*", "gpu_seconds": 50, "per": "run", "action": "fail"},
            "run 'monday' of DAG 'report' has spent 60.00 of the 50 GPU-seconds of [fate] budgets; it gets no device",
        ),
        (
            {"tenant": "finance", "gpu_seconds": 0, "per": "run"},
            "run 'monday' of DAG 'report' has spent 60.00 for tenant 'finance' of the 0 GPU-seconds of [fate] "
            "budgets; it waits until somebody raises that",
        ),
    ],
)
def test_a_budget_that_is_used_up_says_so(fields: dict[str, Any], reason: str) -> None:
    budget = row(**fields)
    assert found(60.0, budget) == Overdraft(Action(budget["action"]), reason)


@pytest.mark.parametrize(
    "fields",
    [
        {"dag": "report", "gpu_seconds": 61},
        {"dag": "another", "gpu_seconds": 0},
        {"tenant": "hr", "gpu_seconds": 0},
        {"dag": "finance", "gpu_seconds": 0},
    ],
)
def test_what_is_left_or_anothers_stops_nobody(fields: dict[str, Any]) -> None:
    assert found(60.0, row(**fields)) is None


def test_a_task_of_no_tenant_has_no_tenants_budget() -> None:
    nobody = PAYER._replace(tenant="")
    assert found(60.0, row(tenant="*", gpu_seconds=0), payer=nobody) is None
    assert [account.kind for account in accounts_of(nobody)] == ["dag", "dag"]


def test_the_strongest_action_counts() -> None:
    rows = [row(dag="*", gpu_seconds=1, action=action) for action in ("hold", "fail", "warn")]
    strongest = found(60.0, *rows)
    assert strongest is not None
    assert strongest.action is Action.FAIL


def test_money_without_a_price_uses_nothing_up() -> None:
    budgets = parse_budgets(json.dumps([row(dag="*", money=0)]))
    assert overdraft(budgets, PAYER, dict.fromkeys(accounts_of(PAYER), Amount(60.0, 0.0, None))) is None


def test_each_account_holds_what_its_payers_have_spent() -> None:
    names = {"a": ("report", "monday", "finance"), "b": ("report", "tuesday", ""), "c": ("other", "monday", "finance")}
    holds = [
        hold(name, 0, 10, device=name, dag_id=dag_id, run_id=run_id, tenant=tenant)
        for name, (dag_id, run_id, tenant) in names.items()
    ]
    accounts = sums(
        shares(holds, 0, 10),
        Prices(),
        lambda owner: accounts_of(Payer(owner.dag_id, owner.run_id, owner.tenant)),
    )
    assert {account: amount.gpu_s for account, amount in accounts.items()} == {
        Account("dag", "report"): 20,
        Account("dag", "report", "report", "monday"): 10,
        Account("dag", "report", "report", "tuesday"): 10,
        Account("dag", "other"): 10,
        Account("dag", "other", "other", "monday"): 10,
        Account("tenant", "finance"): 20,
        Account("tenant", "finance", "report", "monday"): 10,
        Account("tenant", "finance", "other", "monday"): 10,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"per": "week"},
        {"action": "ask"},
        {"gpu_seconds": -1},
        {"gpu_seconds": True},
        {"gpu_seconds": float("inf")},
        {"dag": ""},
        {"money": 1},
        {"tenant": "hr"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_what_is_no_budget_is_refused_with_the_form(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a JSON list of objects with `dag` or `tenant`"):
        parse_budgets(json.dumps([row(dag="report", gpu_seconds=1) | wrong]))


@pytest.mark.parametrize("text", ["{}", "hold", "[1]", '[{"dag": "report"}]'])
def test_what_is_no_list_of_budgets_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="must be a JSON list of objects with `dag` or `tenant`"):
        parse_budgets(text)
