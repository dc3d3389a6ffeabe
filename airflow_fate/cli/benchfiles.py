"""``fate bench --workload W.json --fleet F.json``: policies side by side on one workload."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from airflow_fate.cli.benchmark import UsageError, check_names
from airflow_fate.cli.show import Steps, console, print_json
from airflow_fate.simulator.benchmark.job import ANY, BASELINE, METRICS, OBJECTIVES
from airflow_fate.simulator.benchmark.pool import run_all
from airflow_fate.simulator.benchmark.single import FileJob, FileOutcome, execute_file
from airflow_fate.simulator.files import read_inputs


@dataclass(frozen=True)
class FileRequest:
    """What is asked for."""

    workload: Path
    fleet: Path
    policies: list[str]
    objective: str | None
    seed: int
    out: Path | None
    jobs: int | None
    output: str


def bench_files(request: FileRequest) -> bool:
    """Run the policies, write their files, print the table.

    :return: whether a policy failed.
    :raises UsageError: on an unknown name.
    :raises FileError: on a file that can't be used.
    """
    read_inputs(request.workload, request.fleet)  # before any process is started, and before much is imported
    from airflow_fate.planner.registry import NAMES

    asked = list(dict.fromkeys(request.policies))
    if not asked:
        raise UsageError(f"--policy is missing; there are {', '.join(NAMES)}")
    check_names("policy", asked, NAMES)
    objective = request.objective or ANY
    check_names("objective", [objective], OBJECTIVES)
    # The table is relative to round robin, which so runs always; its files are written when it was asked for.
    tasks = [
        FileJob(
            request.workload,
            request.fleet,
            name,
            objective,
            request.seed,
            request.out is not None and name in asked,
        )
        for name in dict.fromkeys([BASELINE, *asked])
    ]
    found: dict[str, FileOutcome] = {}
    failed = False
    # Two runs are over before a process has started.
    processes = request.jobs or (1 if len(tasks) <= 2 else os.cpu_count() or 1)
    with Steps("Simulations", len(tasks)) as steps, closing(run_all(execute_file, tasks, processes)) as results:
        for done in results:
            steps.step(done.task.policy)
            if done.result is None:
                failed = True
                steps.tell(f"fate bench: {done.task.policy} failed: {done.error}")
            else:
                found[done.task.policy] = done.result
                if request.out is not None and done.task.keep:
                    done.result.write(request.out / done.task.policy)
    ordered = {task.policy: found[task.policy] for task in tasks if task.policy in found}
    if request.output == "json":
        print_json(_document(request, objective, ordered))
    else:
        console().print(_table(ordered))
    return failed


def _ratios(found: dict[str, FileOutcome], name: str) -> dict[str, float]:
    base = found.get(BASELINE)
    if base is None:
        return {}
    return {
        metric: found[name].summary[key] / base.summary[key] for metric, key in METRICS.items() if base.summary[key]
    }


def _document(request: FileRequest, objective: str, found: dict[str, FileOutcome]) -> dict[str, Any]:
    return {
        "workload": str(request.workload),
        "fleet": str(request.fleet),
        "objective": objective,
        "seed": request.seed,
        "policies": {
            name: {
                "over_round_robin": _ratios(found, name),
                "summary": dict(outcome.summary),
                "mechanism": dict(outcome.mechanism),
            }
            for name, outcome in found.items()
        },
    }


def _table(found: dict[str, FileOutcome]) -> Table:
    table = Table(title=f"Policies; in brackets over {BASELINE}", title_justify="left")
    table.add_column("policy")
    for column in (
        "makespan s",
        "mean s",
        "p95 s",
        "loads",
        "load s",
        "cached",
        "moved GB",
        "plan p50 / p99 ms",
        "bound s",
    ):
        table.add_column(column, justify="right")
    for name, outcome in sorted(found.items(), key=lambda each: each[1].summary["makespan_s"]):
        summary, ratios = outcome.summary, _ratios(found, name)
        asked = summary["cached_tokens"] + summary["prefill_tokens"]
        table.add_row(
            name,
            *(f"{summary[key]:.1f} ({ratios.get(metric, float('nan')):.3f})" for metric, key in METRICS.items()),
            f"{summary['loads']:.0f}",
            f"{summary['load_s']:.0f}",
            f"{summary['cached_tokens'] / asked if asked else 0:.0%}",
            f"{summary['moved_bytes'] / 1e9:.2f}",
            f"{1000 * summary['plan_p50_s']:.2f} / {1000 * summary['plan_p99_s']:.2f}",
            f"{summary['lower_bound_s']:.1f}",
        )
    return table
