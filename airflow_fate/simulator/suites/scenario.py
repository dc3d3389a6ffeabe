"""What is a scenario? A name, a load and a way to make its workload and fleet from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload

LOADS = {"burst": None, "high": 1.2, "moderate": 0.7, "light": 0.35}
"""Load -> work offered per second over what the fleet can do in one; in a burst all arrives at once."""


@dataclass(frozen=True)
class Scenario:
    """One scenario of a suite.

    :param load: one of ``LOADS``.
    :param about: what it is about, in one line.
    :param build: seed -> the workload and the fleet; equal seeds make equal ones.
    """

    suite: str
    name: str
    load: str
    about: str
    build: Callable[[int], tuple[Workload, Fleet]]

    @property
    def contended(self) -> bool:
        """Whether work waits all the time; elsewhere the arrivals decide the makespan, not the policy."""
        return self.load in ("burst", "high")
