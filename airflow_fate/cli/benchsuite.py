"""``fate bench --suite ...``: the standard suites, run where they have not been run yet, and reported."""

from __future__ import annotations

import os
import shlex
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import typer

from airflow_fate.cli.benchmark import UsageError, check_names
from airflow_fate.cli.show import Steps, print_json
from airflow_fate.simulator.benchmark.compare import compare
from airflow_fate.simulator.benchmark.job import ANY, METRICS, OBJECTIVES, Job, Outcome, execute
from airflow_fate.simulator.benchmark.plan import ablation_jobs, chosen, policy_jobs
from airflow_fate.simulator.benchmark.plots import can_draw
from airflow_fate.simulator.benchmark.pool import run_all
from airflow_fate.simulator.benchmark.report import write_ablations, write_comparison
from airflow_fate.simulator.benchmark.store import Store
from airflow_fate.simulator.suites import Scenario
from airflow_fate.simulator.writing import write_fleet, write_workload


@dataclass(frozen=True)
class SuiteRequest:
    """What is asked for."""

    suite: str
    scenarios: list[str]
    policies: list[str] | None
    objective: str | None
    seed: int
    seeds: int
    ablations: bool
    out: Path
    jobs: int | None
    fresh: bool

    @property
    def every_seed(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    @property
    def command(self) -> str:
        """The command that makes the same results, without what doesn't matter to them."""
        words = ["fate", "bench", "--suite", self.suite]
        words += [word for scenario in self.scenarios for word in ("--scenario", scenario)]
        words += ["--seeds", str(self.seeds)]
        words += ["--seed", str(self.seed)] if self.seed else []
        words += [word for policy in self.policies or [] for word in ("--policy", policy)]
        words += ["--objective", self.objective] if self.objective else []
        words += ["--ablations"] if self.ablations else []
        return shlex.join([*words, "--out", str(self.out) if not self.out.is_absolute() else self.out.name])


def bench_suite(request: SuiteRequest, export: Path | None, output: str) -> bool:
    """Run what is missing and write the report; or only write the scenarios' files.

    :return: whether a run failed.
    :raises UsageError: on an unknown name.
    """
    from airflow_fate.planner.registry import NAMES

    try:
        scenarios = chosen(request.suite, request.scenarios)
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_names("policy", request.policies or [], NAMES)
    check_names("objective", [request.objective] if request.objective else [], OBJECTIVES)
    if export is not None:
        _export(scenarios, request.every_seed, export)
        return False
    objectives = [request.objective] if request.objective else list(METRICS)
    wanted = (
        ablation_jobs(scenarios, request.every_seed, request.objective or ANY)
        if request.ablations
        else policy_jobs(scenarios, request.every_seed, request.policies or list(NAMES), objectives)
    )
    store = Store(request.out / "runs")
    outcomes, failures = _run(wanted, store, request)
    if not outcomes:
        return True
    if request.ablations:
        written = write_ablations(request.out, request.command, outcomes, scenarios)
    else:
        written = write_comparison(request.out, request.command, outcomes, scenarios, objectives)
    if output == "json":
        _print_json(outcomes, objectives, scenarios)
    else:
        typer.echo("\n".join(str(path) for path in written))
    return failures > 0


def _run(wanted: list[Job], store: Store, request: SuiteRequest) -> tuple[list[Outcome], int]:
    """Outcomes of all runs that are there or could be made, and how many could not."""
    found = {} if request.fresh else {job: outcome for job in wanted if (outcome := store.load(job)) is not None}
    missing = [job for job in wanted if job not in found]
    failures = 0
    results = run_all(execute, missing, request.jobs or os.cpu_count() or 1)
    with Steps("Runs", len(wanted), len(found)) as steps, closing(results):
        if not can_draw():
            steps.tell("The report will have no pictures, which need matplotlib: pip install 'airflow-fate[bench]'")
        for done in results:
            job = done.task
            if done.result is None:
                failures += 1
                steps.tell(f"{job.suite}/{job.scenario} seed {job.seed}, {job.label} failed: {done.error}")
            else:
                store.save(done.result)
                found[job] = done.result
            steps.step(f"{job.scenario} seed {job.seed} {job.label} {job.objective}")
    return [found[job] for job in wanted if job in found], failures


def _export(scenarios: tuple[Scenario, ...], seeds: range, folder: Path) -> None:
    alone = len(scenarios) == len(seeds) == 1
    for scenario in scenarios:
        for seed in seeds:
            workload, fleet = scenario.build(seed)
            place = folder if alone else folder / scenario.suite / scenario.name / f"seed-{seed}"
            write_workload(place / "W.json", workload)
            write_fleet(place / "F.json", fleet)
            typer.echo(str(place))


def _print_json(outcomes: list[Outcome], objectives: list[str], scenarios: tuple[Scenario, ...]) -> None:
    known = {(scenario.suite, scenario.name): scenario for scenario in scenarios}
    told = {}
    for metric in METRICS:
        comparison = compare(outcomes, metric, objectives, known)
        told[metric] = {name: [ratio.value, ratio.low, ratio.high] for name, ratio in comparison.ranking}
    print_json({"over_round_robin": told})
