"""``fate bench --suite small --optimum``: how far each policy is from the optimum of small instances."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from airflow_fate.cli.benchmark import UsageError, check_names
from airflow_fate.cli.show import Steps, console, print_json
from airflow_fate.simulator.atomic import write_whole
from airflow_fate.simulator.benchmark.gaps import GapJob, Gaps, execute_gaps, medians
from airflow_fate.simulator.benchmark.plan import chosen
from airflow_fate.simulator.benchmark.pool import run_all
from airflow_fate.simulator.suites import small


@dataclass(frozen=True)
class OptimumRequest:
    """What is asked for.

    :param limit_s: for each optimum.
    """

    suite: str | None
    scenarios: list[str]
    policies: list[str] | None
    seeds: range
    limit_s: float
    out: Path
    jobs: int | None
    output: str


def bench_optimum(request: OptimumRequest) -> bool:
    """Find the optima, write ``optimum.json`` and print the table.

    :return: whether an instance failed.
    :raises UsageError: on an unknown name, or a suite that is too large for it.
    """
    from airflow_fate.planner.registry import NAMES

    if request.suite not in (None, small.SUITE):
        raise UsageError(f"--optimum is for --suite {small.SUITE}, got {request.suite!r}")
    try:
        scenarios = chosen(small.SUITE, request.scenarios)
    except ValueError as error:
        raise UsageError(str(error)) from error
    policies = tuple(dict.fromkeys(request.policies or NAMES))
    check_names("policy", list(policies), NAMES)
    tasks = [
        GapJob(scenario.suite, scenario.name, seed, policies, request.limit_s)
        for seed in request.seeds
        for scenario in scenarios
    ]
    gaps, failed = _run(tasks, request.jobs or max(1, (os.cpu_count() or 1) // 2))
    if not gaps:
        return True
    document = {
        "instances": [one.document() for one in gaps],
        "median": {name: {"over_optimum": best, "over_bound": bound} for name, best, bound in medians(gaps)},
    }
    write_whole(request.out / "optimum.json", json.dumps(document, indent=1) + "\n")
    if request.output == "json":
        print_json(document)
    else:
        shown = console()
        shown.print(_instances(gaps))
        shown.print(_policies(gaps))
        typer.echo(str(request.out / "optimum.json"))
    return failed


def _run(tasks: list[GapJob], processes: int) -> tuple[list[Gaps], bool]:
    """What was found, in the order of the tasks, and whether something failed."""
    found: dict[GapJob, Gaps] = {}
    with Steps("Optima", len(tasks)) as steps, closing(run_all(execute_gaps, tasks, processes)) as results:
        for done in results:
            job = done.task
            if done.result is None:
                steps.tell(f"{job.scenario} seed {job.seed} failed: {done.error}")
            else:
                found[job] = done.result
            steps.step(f"{job.scenario} seed {job.seed}")
    return [found[job] for job in tasks if job in found], len(found) < len(tasks)


def _instances(gaps: Sequence[Gaps]) -> Table:
    table = Table(title="Makespans", title_justify="left")
    for column in ("scenario", "seed", "best found s", "bound s", "status", "best policy", "its gap"):
        table.add_column(column, justify="left" if column in ("scenario", "status", "best policy") else "right")
    for one in gaps:
        best = min(one.makespans_s, key=one.over_optimum)
        gap = f"{one.over_optimum(best):.1%}"
        table.add_row(one.scenario, str(one.seed), f"{one.optimum_s:.2f}", f"{one.bound_s:.2f}", one.status, best, gap)
    return table


def _policies(gaps: Sequence[Gaps]) -> Table:
    proved = sum(one.status == "OPTIMAL" for one in gaps)
    title = f"Median gap over {len(gaps)} instances; {proved} of the best schedules found are proved optimal"
    table = Table(title=title, title_justify="left")
    table.add_column("policy")
    for column in ("over the best found", "over the bound", "worst over the best found"):
        table.add_column(column, justify="right")
    for name, best, bound in medians(gaps):
        table.add_row(name, f"{best:.1%}", f"{bound:.1%}", f"{max(one.over_optimum(name) for one in gaps):.1%}")
    return table
