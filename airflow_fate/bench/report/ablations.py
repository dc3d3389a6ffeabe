"""What does each part of FATE bring? Its ablations, relative to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.report.document import Block, Heading, Table, Text
from airflow_fate.bench.report.ratios import Figures, Ratio, ScenarioKey, figures
from airflow_fate.bench.suite.job import Outcome
from airflow_fate.bench.suite.plan import FULL, variations
from airflow_fate.planner.registry import BASELINE
from airflow_fate.simulator.suites import Scenario


def ablations(outcomes: Sequence[Outcome], scenarios: Mapping[ScenarioKey, Scenario]) -> list[Block]:
    """A table for each group of ablations: metrics over those of the whole, above 1 where the part was of use."""
    compared = {metric: _compare(outcomes, metric, scenarios) for metric in METRICS}
    makespan = compared["makespan"]
    blocks: list[Block] = [
        Text(
            f"Ratios to the complete FATE over {len(makespan.figures.scenarios)} scenarios ({len(makespan.among)} of "
            "them contended: makespan is judged over those), with 95 % confidence intervals. Above 1: it is worse "
            "without."
        )
    ]
    if makespan.left_out:
        blocks.append(Text("Not all ablations have a run, so left out: " + ", ".join(makespan.left_out) + "."))
    groups: dict[str, list[str]] = {"Beside it": [BASELINE]}
    for variation in variations():
        if variation.group:
            groups.setdefault(variation.group, []).append(variation.name)
    for group, names in groups.items():
        rows = [
            [name, *(str(compared[metric].over_complete(name)) for metric in METRICS)]
            for name in names
            if name in makespan.figures.names
        ]
        blocks += [Heading(group, 3), Table(["", *METRICS], rows)]
    return blocks


def ratios_document(
    outcomes: Sequence[Outcome], scenarios: Mapping[ScenarioKey, Scenario]
) -> dict[str, dict[str, list[float]]]:
    """Metric -> ablation -> its ratio to the complete FATE, with the ends of the interval."""
    document = {}
    for metric in METRICS:
        compared = _compare(outcomes, metric, scenarios)
        ratios = {name: compared.over_complete(name) for name in compared.figures.names if name != FULL.name}
        document[metric] = {name: [ratio.value, ratio.low, ratio.high] for name, ratio in ratios.items()}
    return document


@dataclass(frozen=True)
class _Compared:
    """All ablations on one metric.

    :param among: the scenarios that the metric is judged over.
    """

    figures: Figures
    among: Sequence[ScenarioKey]
    left_out: Sequence[str]

    def over_complete(self, name: str) -> Ratio:
        return self.figures.ratio(name, FULL.name, self.among)


def _compare(outcomes: Sequence[Outcome], metric: str, scenarios: Mapping[ScenarioKey, Scenario]) -> _Compared:
    all_figures, left_out = figures(outcomes, metric, lambda outcome: outcome.job.label)
    contended = [key for key in all_figures.scenarios if scenarios[key].contended]
    among = contended if metric == "makespan" and contended else all_figures.scenarios
    return _Compared(all_figures, among, left_out)
