"""What is a scenario? A name, a load and a way to make its workload and fleet from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload

LOADS = {"burst": None, "high": 1.1, "moderate": 0.55, "light": 0.27}
"""Load -> work offered per second over the most that the fleet could do in one, were every model everywhere and every
prefix computed once (a linear program's bound, which nothing can beat); in a burst all arrives at once."""


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


def by_name(scenarios: Iterable[Scenario]) -> dict[tuple[str, str], Scenario]:
    """(suite, name) -> the scenario."""
    return {(scenario.suite, scenario.name): scenario for scenario in scenarios}
