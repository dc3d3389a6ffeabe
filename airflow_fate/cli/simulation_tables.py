"""How are policies shown side by side? Tables of ``fate simulate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.whatif import Answer
from airflow_fate.cli.show import console


def show(answers: Sequence[Answer], tasks: Mapping[str, Mapping[str, Any]], notes: Sequence[str], title: str) -> None:
    shown = console()
    shown.print(_policies(answers, title))
    if tasks:
        shown.print(_tasks(tasks))
    for note in notes:
        shown.print(f"- {note}")


def _policies(answers: Sequence[Answer], title: str) -> Table:
    table = Table(title=f"{title}\nIn brackets over round_robin", title_justify="left")
    table.add_column("policy")
    for column in ("makespan s", "mean s", "p95 s", "loads", "cached"):
        table.add_column(column, justify="right")
    for answer in sorted(answers, key=lambda answer: answer.mean_s):
        values = zip(METRICS, (answer.makespan_s, answer.mean_s, answer.p95_s), strict=True)
        cells = [f"{value:.1f}" + (f" ({answer.ratios[name]})" if answer.ratios else "") for name, value in values]
        table.add_row(answer.policy, *cells, f"{answer.loads:.1f}", f"{answer.cached_share:.0%}")
    return table


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="What it rests on", title_justify="left")
    for column in ("LLM task", "model", "instances", "prompt tokens", "output tokens", "runs in history"):
        table.add_column(column, justify="left" if column in ("LLM task", "model") else "right")
    for name, task in tasks.items():
        table.add_row(
            name,
            task["model"],
            str(task["instances"]) + (f" × {task['prompts']}" if task["prompts"] > 1 else ""),
            f"{task['prompt_tokens']} ({task['prompt_from']})",
            f"{task['output_tokens']} ({task['output_from']})",
            str(task["history_runs"] or "none"),
        )
    return table
