"""``fate bench run``: policies side by side on a workload and a fleet from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from airflow_fate.cli.bench.options import (
    Jobs,
    Models,
    Objective,
    chosen_objective,
    chosen_policies,
    failures_explained,
    model_map,
)
from airflow_fate.cli.play import play
from airflow_fate.cli.show import FOUND_TROUBLE, Output, console, print_json
from airflow_fate.cli.usage import UsageError

if TYPE_CHECKING:
    from airflow_fate.bench.run import FileJob, FileOutcome


def run(
    workload: Annotated[Path, typer.Option(help="Workload file (docs/physics.md), or OpenTelemetry traces.")],
    fleet: Annotated[Path, typer.Option(help="Fleet file for it: fleet.yaml, fleet.json or F.json.")],
    policies: Annotated[list[str] | None, typer.Option("--policy", help="May be repeated.")] = None,
    models: Models = None,
    objective: Objective = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for each policy's summary.json and events.jsonl.")] = None,
    jobs: Jobs = None,
    output: Output = "table",
) -> None:
    """Play a workload on a fleet, both from files, under the policies and under round robin."""
    with failures_explained("bench run"):
        # Files are checked before any process is started, and before much is imported.
        from airflow_fate.simulator.files import read_inputs

        stand_ins = model_map(models)
        read_inputs(workload, fleet, stand_ins)
        named = chosen_policies(policies)
        if not policies:
            raise UsageError(f"--policy is missing; there are {', '.join(named)}")
        judged_by = chosen_objective(objective)
        from airflow_fate.bench.run import execute_file, file_jobs

        wanted = file_jobs(workload, fleet, named, judged_by, seed, out is not None, stand_ins)

        def keep(job: FileJob, outcome: FileOutcome) -> None:
            if out is not None and job.keeps_events:
                outcome.write(out / job.policy)

        # Two runs are over before a process has started.
        processes = jobs or (1 if len(wanted) <= 2 else None)
        outcomes_by_job = play("Simulations", execute_file, wanted, processes, keep=keep)
        outcomes = {job.policy: outcome for job, outcome in outcomes_by_job}
        if output == "json":
            _print_json(outcomes, workload, fleet, judged_by, seed)
        else:
            console().print(_table(outcomes))
    if len(outcomes) < len(wanted):
        raise typer.Exit(FOUND_TROUBLE)


def _print_json(outcomes: Mapping[str, FileOutcome], workload: Path, fleet: Path, objective: str, seed: int) -> None:
    from airflow_fate.bench.run import over_baseline

    print_json(
        {
            "workload": str(workload),
            "fleet": str(fleet),
            "objective": objective,
            "seed": seed,
            "policies": {
                policy: {
                    "over_round_robin": over_baseline(outcomes, policy),
                    "summary": dict(outcome.summary),
                    "mechanism": dict(outcome.mechanism),
                }
                for policy, outcome in outcomes.items()
            },
        }
    )


def _table(outcomes: Mapping[str, FileOutcome]) -> Table:
    from airflow_fate.bench.metrics import METRICS
    from airflow_fate.bench.run import over_baseline
    from airflow_fate.planner.registry import BASELINE

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
    for policy, outcome in sorted(outcomes.items(), key=lambda each: each[1].summary["makespan_s"]):
        summary, ratios = outcome.summary, over_baseline(outcomes, policy)
        prompt_tokens = summary["cached_tokens"] + summary["prefill_tokens"]
        table.add_row(
            policy,
            *(f"{summary[key]:.1f} ({ratios.get(metric, float('nan')):.3f})" for metric, key in METRICS.items()),
            f"{summary['loads']:.0f}",
            f"{summary['load_s']:.0f}",
            f"{summary['cached_tokens'] / prompt_tokens if prompt_tokens else 0:.0%}",
            f"{summary['moved_bytes'] / 1e9:.2f}",
            f"{1000 * summary['plan_p50_s']:.2f} / {1000 * summary['plan_p99_s']:.2f}",
            f"{summary['lower_bound_s']:.1f}",
        )
    return table
