"""Which policy is meant by a name?"""

from __future__ import annotations

from airflow_fate.planner.baselines.round_robin import RoundRobin
from airflow_fate.planner.fate import plan
from airflow_fate.planner.plan import Policy

NAMES = ("fate", "round_robin")


def policy(name: str) -> Policy:
    """A policy by its name; a policy that takes turns begins at the first place.

    :raises ValueError: listing the known names.
    """
    if name == "fate":
        return plan
    if name == "round_robin":
        return RoundRobin()
    raise ValueError(f"unknown policy {name!r}; known policies: {', '.join(NAMES)}")
