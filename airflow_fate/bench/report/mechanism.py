"""Why is a policy better, and what does it cost? Loads, caches, transfers, waits and planning times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median

from airflow_fate.bench.report.document import Block, Table, Text
from airflow_fate.bench.suite.job import Outcome
from airflow_fate.planner.registry import FATE


def group(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by policy, or ablation; FATE's by objective, where there are several."""
    every = list(outcomes)
    objectives = {outcome.job.objective for outcome in every if outcome.job.policy == FATE}
    grouped: dict[str, list[Outcome]] = {}
    for outcome in every:
        job = outcome.job
        several = job.policy == FATE and len(objectives) > 1
        grouped.setdefault(f"{job.label} ({job.objective})" if several else job.label, []).append(outcome)
    return grouped


def mechanism(outcomes: Sequence[Outcome]) -> list[Block]:
    """Means of a run, by policy."""
    grouped = group(outcomes)
    further = sorted({name for outcome in outcomes for name in outcome.mechanism})
    header = [
        "policy",
        "loads",
        "load s",
        "prompt tokens cached",
        "moved GB",
        "wait s",
        "makespan over bound",
        *further,
    ]
    rows = []
    for name, of_policy in grouped.items():
        summaries = [outcome.summary for outcome in of_policy]
        cached = sum(summary["cached_tokens"] for summary in summaries)
        asked = cached + sum(summary["prefill_tokens"] for summary in summaries)
        bounds = [s["makespan_s"] / s["lower_bound_s"] for s in summaries if s.get("lower_bound_s", 0) > 0]
        rows.append(
            [
                name,
                f"{fmean(summary['loads'] for summary in summaries):.1f}",
                f"{fmean(summary['load_s'] for summary in summaries):.0f}",
                f"{cached / asked if asked else 0:.1%}",
                f"{fmean(summary['moved_bytes'] for summary in summaries) / 1e9:.2f}",
                f"{fmean(summary['wait_s'] for summary in summaries):.0f}",
                f"{fmean(bounds):.2f}" if bounds else "",
                *(_mean(of_policy, key) for key in further),
            ]
        )
    marked = frozenset(index for index, name in enumerate(grouped) if name.startswith(FATE))
    return [
        Text("Means of a run, over all scenarios and seeds that have been run."),
        Table(header, rows, marked),
    ]


def planning(outcomes: Sequence[Outcome]) -> list[Block]:
    """What the decisions took, by policy."""
    rows = []
    grouped = group(outcomes)
    for name, of_policy in grouped.items():
        p50, p99 = ([1000 * outcome.summary[key] for outcome in of_policy] for key in ("plan_p50_s", "plan_p99_s"))
        rows.append(
            [
                name,
                f"{fmean(outcome.summary['plans'] for outcome in of_policy):.0f}",
                f"{median(p50):.2f}",
                f"{median(p99):.2f}",
                f"{max(p99):.2f}",
                f"{fmean(outcome.wall_s for outcome in of_policy):.2f}",
            ]
        )
    header = ["policy", "plans a run", "p50 ms", "p99 ms", "p99 ms, worst run", "s a run, simulation included"]
    marked = frozenset(index for index, name in enumerate(grouped) if name.startswith(FATE))
    wall_s = sum(outcome.wall_s for outcome in outcomes)
    return [
        Text(f"{len(outcomes)} runs took {wall_s / 60:.1f} minutes of one core, simulation and planning together."),
        Table(header, rows, marked),
    ]


def _mean(outcomes: Sequence[Outcome], key: str) -> str:
    values = [outcome.mechanism[key] for outcome in outcomes if key in outcome.mechanism]
    return f"{fmean(values):.4g}" if values else ""
