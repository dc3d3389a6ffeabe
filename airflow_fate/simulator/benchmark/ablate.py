"""What does each part of FATE bring? Its ablations, relative to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_fate.simulator.benchmark.document import Block, Heading, Table, Text
from airflow_fate.simulator.benchmark.job import BASELINE, METRICS, Outcome
from airflow_fate.simulator.benchmark.plan import FULL, variations
from airflow_fate.simulator.benchmark.ratios import ScenarioKey, figures
from airflow_fate.simulator.suites import Scenario


def ablations(outcomes: Sequence[Outcome], scenarios: Mapping[ScenarioKey, Scenario]) -> list[Block]:
    """A table for each group of ablations: metrics over those of the whole, above 1 where the part was of use."""
    found = {metric: figures(outcomes, metric, lambda outcome: outcome.job.label) for metric in METRICS}
    known, left_out = found["makespan"]
    contended = [key for key in known.scenarios if scenarios[key].contended] or list(known.scenarios)
    among = {metric: contended if metric == "makespan" else list(known.scenarios) for metric in METRICS}
    blocks: list[Block] = [
        Text(
            f"Ratios to the complete FATE over {len(known.scenarios)} scenarios ({len(contended)} of them contended: "
            "makespan is judged over those), with 95 % confidence intervals. Above 1: it is worse without."
        )
    ]
    if left_out:
        blocks.append(Text("Not all ablations have a run, so left out: " + ", ".join(left_out) + "."))
    groups: dict[str, list[str]] = {"Beside it": [BASELINE]}
    for variation in variations():
        if variation.group:
            groups.setdefault(variation.group, []).append(variation.name)
    for group, names in groups.items():
        rows = [
            [name, *(str(found[metric][0].ratio(name, FULL.name, among[metric])) for metric in METRICS)]
            for name in names
            if name in known.names
        ]
        blocks += [Heading(group, 3), Table(["", *METRICS], rows)]
    return blocks
