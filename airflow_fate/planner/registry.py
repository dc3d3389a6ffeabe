"""Which policies are there, by name? The simulator follows all of them, the executor those that plan."""

from __future__ import annotations

from collections.abc import Collection

from airflow_fate.planner.baselines import BASELINES

FATE = "fate"
ASSIGNMENT = "assignment"
"""The baseline that is no list policy."""
BASELINE = "round_robin"
"""To which every ratio is given."""

NAMES = (FATE, *BASELINES, ASSIGNMENT)

PLANNING = (FATE, *(name for name, baseline in BASELINES.items() if not baseline.rule.dispatch.push))
"""Whoever pushes queues at the engines, which the ledger does not let anybody do."""


def check(what: str, name: str, known: Collection[str]) -> None:
    """:raises ValueError: listing the known names."""
    if name not in known:
        raise ValueError(f"no {what} {name!r}; there are {', '.join(known)}")
