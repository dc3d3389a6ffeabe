"""``fate bench optimum``: how far each policy is from the optimum of small instances."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from airflow_fate.cli.bench.options import (
    DEFAULT_OUT,
    Jobs,
    Out,
    Policies,
    Scenarios,
    Seed,
    Seeds,
    chosen_policies,
    chosen_scenarios,
    failures_explained,
    seed_range,
)
from airflow_fate.cli.play import play
from airflow_fate.cli.show import FOUND_TROUBLE, Output, console, print_json

if TYPE_CHECKING:
    from airflow_fate.bench.optimum.gaps import Gaps


def optimum(
    scenarios: Scenarios = None,
    policies: Policies = None,
    seed: Seed = 0,
    seeds: Seeds = 5,
    limit: Annotated[float, typer.Option(min=1, help="Seconds for each optimum.")] = 60,
    out: Out = DEFAULT_OUT,
    jobs: Jobs = None,
    output: Output = "table",
) -> None:
    """Compare policies with the optimum of each instance of the suite small."""
    with failures_explained("bench optimum"):
        from airflow_fate.atomic import write_json
        from airflow_fate.bench.optimum.gaps import document, execute_gaps, gap_jobs
        from airflow_fate.simulator.suites import small

        chosen = chosen_scenarios(small.SUITE, scenarios)
        wanted = gap_jobs(chosen, seed_range(seed, seeds), chosen_policies(policies), limit)
        # A solver has two threads.
        processes = jobs or max(1, (os.cpu_count() or 1) // 2)
        gaps = [outcome for _, outcome in play("Optima", execute_gaps, wanted, processes)]
        if not gaps:
            raise typer.Exit(FOUND_TROUBLE)
        file = out / "optimum.json"
        write_json(file, document(gaps))
        if output == "json":
            print_json(document(gaps))
        else:
            shown = console()
            shown.print(_instances(gaps))
            shown.print(_policies(gaps))
            typer.echo(str(file))
    if len(gaps) < len(wanted):
        raise typer.Exit(FOUND_TROUBLE)


def _instances(gaps: Sequence[Gaps]) -> Table:
    table = Table(title="Makespans", title_justify="left")
    for column in ("scenario", "seed", "best found s", "bound s", "status", "best policy", "its gap"):
        table.add_column(column, justify="left" if column in ("scenario", "status", "best policy") else "right")
    for instance in gaps:
        best = min(instance.makespans_s, key=instance.over_optimum)
        table.add_row(
            instance.scenario,
            str(instance.seed),
            f"{instance.optimum_s:.2f}",
            f"{instance.bound_s:.2f}",
            instance.status,
            best,
            f"{instance.over_optimum(best):.1%}",
        )
    return table


def _policies(gaps: Sequence[Gaps]) -> Table:
    from airflow_fate.bench.optimum.gaps import medians

    proved = sum(instance.status == "OPTIMAL" for instance in gaps)
    title = f"Median gap over {len(gaps)} instances; {proved} of the best schedules found are proved optimal"
    table = Table(title=title, title_justify="left")
    table.add_column("policy")
    for column in ("over the best found", "over the bound", "worst over the best found"):
        table.add_column(column, justify="right")
    for policy, best, bound in medians(gaps):
        worst = max(instance.over_optimum(policy) for instance in gaps)
        table.add_row(policy, f"{best:.1%}", f"{bound:.1%}", f"{worst:.1%}")
    return table
