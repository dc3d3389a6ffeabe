"""What is the planner measured on? The standard suites, made anew from a seed."""

from __future__ import annotations

from airflow_fate.simulator.suites import prefixreuse, realdag, small
from airflow_fate.simulator.suites.scenario import LOADS, Scenario, by_name

__all__ = ["LOADS", "STANDARD", "SUITES", "Scenario", "by_name", "find_scenarios"]

SUITES: dict[str, tuple[Scenario, ...]] = {
    realdag.SUITE: realdag.SCENARIOS,
    prefixreuse.SUITE: prefixreuse.SCENARIOS,
    small.SUITE: small.SCENARIOS,
}

STANDARD = (realdag.SUITE, prefixreuse.SUITE)
"""What ``all`` stands for. The small instances are for comparing with the optimum."""


def find_scenarios(suite: str, name: str | None = None) -> tuple[Scenario, ...]:
    """The scenarios of a suite or of ``all``, or the one of that name.

    :raises ValueError: listing the known ones.
    """
    if suite != "all" and suite not in SUITES:
        raise ValueError(f"no suite {suite!r}; there are {', '.join(SUITES)} and all")
    known = [scenario for each in (STANDARD if suite == "all" else (suite,)) for scenario in SUITES[each]]
    scenarios = tuple(scenario for scenario in known if name in (None, scenario.name))
    if not scenarios:
        raise ValueError(f"no scenario {name!r} in {suite}; there are {', '.join(s.name for s in known)}")
    return scenarios
