"""``fate bench suite``, ``ablations`` and ``export``: the standard suites, played, taken apart, and as files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_fate.cli.bench.options import (
    DEFAULT_OUT,
    Fresh,
    Jobs,
    Objective,
    Out,
    Policies,
    Scenarios,
    Seed,
    Seeds,
    Suite,
    chosen_objective,
    chosen_policies,
    chosen_scenarios,
    failures_explained,
    seed_range,
)
from airflow_fate.cli.play import play
from airflow_fate.cli.show import FOUND_TROUBLE, Output, print_json

if TYPE_CHECKING:
    from airflow_fate.bench.suite.job import Job, Outcome


def suite(
    suite: Suite = "all",
    scenarios: Scenarios = None,
    policies: Policies = None,
    objective: Objective = None,
    seed: Seed = 0,
    seeds: Seeds = 5,
    out: Out = DEFAULT_OUT,
    jobs: Jobs = None,
    fresh: Fresh = False,
    output: Output = "table",
) -> None:
    """Play a standard suite under all policies. FATE plays it once for each objective."""
    with failures_explained("bench suite"):
        chosen = chosen_scenarios(suite, scenarios)
        named = chosen_policies(policies)
        chosen_objective(objective)
        from airflow_fate.bench.metrics import METRICS
        from airflow_fate.bench.report.compare import ratios_document
        from airflow_fate.bench.report.write import write_comparison
        from airflow_fate.bench.suite.plan import policy_jobs
        from airflow_fate.simulator.suites import by_name

        objectives = [objective] if objective else list(METRICS)
        wanted = policy_jobs(chosen, seed_range(seed, seeds), named, objectives)
        outcomes = _outcomes(wanted, out, jobs, fresh)
        command = _command("suite", suite, scenarios, policies, objective, seed, seeds, out)
        written = write_comparison(out, command, outcomes, chosen, objectives)
        if output == "json":
            print_json({"over_round_robin": ratios_document(outcomes, objectives, by_name(chosen))})
        else:
            typer.echo("\n".join(map(str, written)))
    if len(outcomes) < len(wanted):
        raise typer.Exit(FOUND_TROUBLE)


def ablations(
    suite: Suite = "all",
    scenarios: Scenarios = None,
    objective: Objective = None,
    seed: Seed = 0,
    seeds: Seeds = 5,
    out: Out = DEFAULT_OUT,
    jobs: Jobs = None,
    fresh: Fresh = False,
    output: Output = "table",
) -> None:
    """Play a standard suite under FATE without each of its parts."""
    with failures_explained("bench ablations"):
        chosen = chosen_scenarios(suite, scenarios)
        judged_by = chosen_objective(objective)
        from airflow_fate.bench.report.ablations import ratios_document
        from airflow_fate.bench.report.write import write_ablations
        from airflow_fate.bench.suite.plan import ablation_jobs
        from airflow_fate.simulator.suites import by_name

        wanted = ablation_jobs(chosen, seed_range(seed, seeds), judged_by)
        outcomes = _outcomes(wanted, out, jobs, fresh)
        command = _command("ablations", suite, scenarios, None, objective, seed, seeds, out)
        written = write_ablations(out, command, outcomes, chosen)
        if output == "json":
            print_json({"over_complete": ratios_document(outcomes, by_name(chosen))})
        else:
            typer.echo("\n".join(map(str, written)))
    if len(outcomes) < len(wanted):
        raise typer.Exit(FOUND_TROUBLE)


def export(
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    suite: Suite = "all",
    scenarios: Scenarios = None,
    seed: Seed = 0,
    seeds: Seeds = 1,
    output: Output = "table",
) -> None:
    """Write the workload and the fleet of each scenario as files, and run nothing."""
    with failures_explained("bench export"):
        chosen = chosen_scenarios(suite, scenarios)
        from airflow_fate.bench.export import export as write_files

        folders = []
        for folder in write_files(chosen, seed_range(seed, seeds), out):
            folders.append(str(folder))
            if output == "table":
                typer.echo(str(folder))
        if output == "json":
            print_json({"folders": folders})


def _outcomes(wanted: Sequence[Job], out: Path, processes: int | None, fresh: bool) -> list[Outcome]:
    """Outcomes of all runs that are there already or don't fail.

    :raises Exit: when there is none.
    """
    from airflow_fate.bench.report.plots import can_draw
    from airflow_fate.bench.suite.job import execute
    from airflow_fate.bench.suite.store import Store

    if not can_draw():
        typer.echo(
            "The report will have no pictures, which need matplotlib: pip install 'airflow-fate[bench]'", err=True
        )
    store = Store(out / "runs")
    outcomes = {} if fresh else {job: outcome for job in wanted if (outcome := store.load(job)) is not None}
    missing = [job for job in wanted if job not in outcomes]
    outcomes |= play(
        "Runs", execute, missing, processes, keep=lambda _, outcome: store.save(outcome), done=len(outcomes)
    )
    if not outcomes:
        raise typer.Exit(FOUND_TROUBLE)
    return [outcomes[job] for job in wanted if job in outcomes]


def _command(
    name: str,
    suite: str,
    scenarios: list[str] | None,
    policies: list[str] | None,
    objective: str | None,
    seed: int,
    seeds: int,
    out: Path,
) -> str:
    """The command that makes the same results, without what doesn't matter to them."""
    words = ["fate", "bench", name, suite]
    words += [word for scenario in scenarios or [] for word in ("--scenario", scenario)]
    words += ["--seeds", str(seeds)]
    words += ["--seed", str(seed)] if seed else []
    words += [word for policy in policies or [] for word in ("--policy", policy)]
    words += ["--objective", objective] if objective else []
    return shlex.join([*words, "--out", out.name if out.is_absolute() else str(out)])
