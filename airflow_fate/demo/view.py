"""What does a person see? A live view of tasks and devices, then the tables that compare the passes."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from airflow_fate.demo.passes import PassResult
from airflow_fate.demo.stack import AirflowStack
from airflow_fate.demo.workload import Trigger
from airflow_fate.messages import DEFAULT_LABEL_PREFIX
from airflow_fate.messages.labels import decode

QUIET_EVERY_S = 2.0


class PassView:
    """Shows one pass while it runs: a live picture on a terminal, a line now and then elsewhere."""

    def __init__(
        self, console: Console, title: str, stack: AirflowStack, pods: Path, runs: list[Trigger], tasks: int
    ) -> None:
        self._console = console
        self._title = title
        self._stack = stack
        self._pods = pods
        self._runs = runs
        self._progress = Progress(
            TextColumn(title, style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tasks"),
            TimeElapsedColumn(),
        )
        self._bar = self._progress.add_task(title, total=tasks)
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._said_at = 0.0

    def __enter__(self) -> PassView:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self) -> None:
        """Look at Airflow and the fleet, and draw."""
        states = Counter(
            str(ti["state"] or "waiting")
            for run in self._runs
            for ti in self._stack.api.task_instances(run.dag_id, run.run_id)
        )
        self._progress.update(self._bar, completed=states["success"])
        if self._console.is_terminal:
            self._live.update(self._picture(states))
        elif time.monotonic() - self._said_at >= QUIET_EVERY_S:
            self._said_at = time.monotonic()
            self._console.print(
                f"{self._title}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            )

    def _picture(self, states: Counter[str]) -> RenderableType:
        devices = Table(title="devices", expand=True)
        for column in ("device", "models", "running", "cached prefixes", "requests", "cached / prompt tokens"):
            devices.add_column(column)
        for path in sorted(self._pods.glob("*.json")):
            try:
                pod = json.loads(path.read_text())["metadata"]
                report = decode(pod["labels"], pod["annotations"], DEFAULT_LABEL_PREFIX)
            except (OSError, ValueError, KeyError):
                continue
            if report is None:
                continue
            devices.add_row(
                report.device,
                ", ".join(f"{name} ({model.state})" for name, model in report.models.items()),
                str(report.running),
                str(len(report.prefixes)),
                str(report.served_requests),
                f"{report.served_cached_tokens:,} / {report.served_prompt_tokens:,}",
            )
        tasks = Table(title="tasks", expand=True)
        for state in sorted(states):
            tasks.add_column(state)
        tasks.add_row(*(str(states[state]) for state in sorted(states)))
        return Group(self._progress, tasks, devices)


def placements_table(result: PassResult) -> Table:
    """Each task: where, what it cost there, and why."""
    table = Table(title="What ran where, and why (fate)", show_lines=False)
    for column in ("task", "device", "model"):
        table.add_column(column, no_wrap=True)
    for column in ("load", "wait", "prefill", "decode", "cached"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for task in result.tasks:
        table.add_row(
            task.task.split("/", 1)[1],
            task.device,
            task.model,
            f"{task.load_s:.1f}",
            f"{task.wait_s:.1f}",
            f"{task.prefill_s:.1f}",
            f"{task.decode_s:.1f}",
            f"{task.cached_tokens}/{task.prompt_tokens}",
            task.why,
        )
    return table


def comparison_table(results: dict[str, PassResult]) -> Table:
    """The passes side by side, with the first as a share of the last."""
    names = list(results)
    table = Table(title="The same runs, the same machine")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column(f"{names[0]} / {names[-1]}", justify="right")
    first, last = results[names[0]], results[names[-1]]
    rows = (
        ("wall clock, s", "wall_s"),
        ("P95 of a run, s", "p95_s"),
        ("mean of a run, s", "mean_s"),
        ("cached prompt tokens (by the engines)", "cached_tokens"),
        ("prompt tokens", "prompt_tokens"),
        ("model loads", "loads"),
    )
    for label, field in rows:
        mine, theirs = getattr(first, field), getattr(last, field)
        share = f"{mine / theirs:.2f}" if theirs else "–"
        table.add_row(label, *(f"{getattr(results[name], field):,}" for name in names), share)
    return table
