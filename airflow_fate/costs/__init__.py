"""What does a run cost? A device's time is shared among those who hold it, priced, and held against budgets. Pure."""

from airflow_fate.costs.amounts import Amount, sums
from airflow_fate.costs.budgets import Account, Action, Budget, Overdraft, Payer, accounts_of, overdraft, parse_budgets
from airflow_fate.costs.fleet_time import FleetTime, fleet_time
from airflow_fate.costs.prices import Prices
from airflow_fate.costs.sharing import Hold, Interval, Owner, Share, shares

__all__ = [
    "Account",
    "Action",
    "Amount",
    "Budget",
    "FleetTime",
    "Hold",
    "Interval",
    "Overdraft",
    "Owner",
    "Payer",
    "Prices",
    "Share",
    "accounts_of",
    "fleet_time",
    "overdraft",
    "parse_budgets",
    "shares",
    "sums",
]
