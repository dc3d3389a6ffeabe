"""What do the standard suites consist of? Their scenarios as files, for other tools to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_fate.simulator.suites import Scenario
from airflow_fate.simulator.writing import write_fleet, write_workload


def export(scenarios: Sequence[Scenario], seeds: Sequence[int], folder: Path) -> Iterator[Path]:
    """Write ``W.json`` and ``F.json`` of each scenario and seed, and yield the folder of each pair.

    A lone pair goes into the folder itself.
    """
    alone = len(scenarios) == len(seeds) == 1
    for scenario in scenarios:
        for seed in seeds:
            workload, fleet = scenario.build(seed)
            place = folder if alone else folder / scenario.suite / scenario.name / f"seed-{seed}"
            write_workload(place / "W.json", workload)
            write_fleet(place / "F.json", fleet)
            yield place
