"""What does a benchmark say? ``report.md`` and ``report.html`` with their pictures."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_fate import __version__
from airflow_fate.atomic import write_whole
from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.report.ablations import ablations
from airflow_fate.bench.report.compare import CONTENDED, by_scenario, compare, ranking, verdict
from airflow_fate.bench.report.document import Block, Code, Heading, Table, Text, to_html, to_markdown
from airflow_fate.bench.report.mechanism import mechanism, planning
from airflow_fate.bench.report.plots import can_draw, draw_all
from airflow_fate.bench.suite.job import Outcome
from airflow_fate.planner.registry import FATE
from airflow_fate.simulator.suites import Scenario, by_name


def write_comparison(
    folder: Path, command: str, outcomes: Sequence[Outcome], scenarios: Sequence[Scenario], objectives: Sequence[str]
) -> list[Path]:
    """The report on policies.

    :return: what was written for people to read.
    """
    known = by_name(scenarios)
    comparisons = [compare(outcomes, metric, objectives, known) for metric in METRICS]
    drawn: Mapping[str, list[Block]] = draw_all(comparisons, known, folder) if can_draw() else {}
    has_fate = any(outcome.job.policy == FATE for outcome in outcomes)
    blocks = [Heading("fate bench", 1), *_origin(command, outcomes)]
    if has_fate:
        blocks += [Heading("FATE against the strongest other policies"), *verdict(comparisons)]
    blocks.append(Heading("All policies"))
    for comparison in comparisons:
        blocks += [*ranking(comparison), *drawn.get(comparison.metric, [])]
    if has_fate:
        blocks += [Heading("Scenario by scenario"), Text(f"Ratios to round_robin; {CONTENDED} contended.")]
        blocks += [block for comparison in comparisons for block in by_scenario(comparison, known)]
    blocks += [Heading("Mechanism"), *mechanism(outcomes), Heading("Planning time"), *planning(outcomes)]
    blocks += [Heading("Scenarios"), _scenarios(scenarios)]
    return _write(folder, "report", "fate bench", blocks)


def write_ablations(
    folder: Path, command: str, outcomes: Sequence[Outcome], scenarios: Sequence[Scenario]
) -> list[Path]:
    """The report on FATE's parts.

    :return: what was written for people to read.
    """
    known = by_name(scenarios)
    blocks = [Heading("fate bench: ablations", 1), *_origin(command, outcomes), *ablations(outcomes, known)]
    blocks += [Heading("Mechanism"), *mechanism(outcomes), Heading("Planning time"), *planning(outcomes)]
    blocks += [Heading("Scenarios"), _scenarios(scenarios)]
    return _write(folder, "ablations", "fate bench: ablations", blocks)


def _origin(command: str, outcomes: Sequence[Outcome]) -> list[Block]:
    seeds = sorted({outcome.job.seed for outcome in outcomes})
    codes = sorted({outcome.code_digest for outcome in outcomes})
    origin = (
        f"{len(outcomes)} runs, seeds {', '.join(map(str, seeds))}; airflow-fate {__version__}, planner and simulator "
        f"{', '.join(codes)}, scenarios {outcomes[0].suite_digest}; the report was made with Python "
        f"{platform.python_version()} on {platform.machine()}."
    )
    blocks: list[Block] = [Text("Made by"), Code(command), Text(origin)]
    if len(codes) > 1:
        blocks.append(Text("Careful: the runs are of different versions of the code. --fresh runs all of them anew."))
    if not can_draw():
        blocks.append(Text("No pictures: matplotlib is not installed (pip install 'airflow-fate[bench]')."))
    return blocks


def _scenarios(scenarios: Sequence[Scenario]) -> Table:
    rows = [[f"{each.suite}/{each.name}", each.load, each.about] for each in scenarios]
    return Table(["scenario", "load", "about"], rows)


def _write(folder: Path, name: str, title: str, blocks: Sequence[Block]) -> list[Path]:
    markdown, page = folder / f"{name}.md", folder / f"{name}.html"
    write_whole(markdown, to_markdown(blocks))
    write_whole(page, to_html(title, blocks))
    return [markdown, page]
