"""How do policies do on a workload from a file? Their summaries and their event logs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_fate.atomic import write_json, write_whole
from airflow_fate.bench.metrics import METRICS
from airflow_fate.planner.registry import BASELINE


@dataclass(frozen=True)
class FileJob:
    """One policy on the workload of a file.

    :param keeps_events: whether the events are wanted, too.
    :param models: model of the workload -> the fleet's that stands for it.
    """

    workload: Path
    fleet: Path
    policy: str
    objective: str
    seed: int
    keeps_events: bool
    models: Mapping[str, str]

    @property
    def title(self) -> str:
        """As progress names it."""
        return self.policy


@dataclass(frozen=True)
class FileOutcome:
    """What came out.

    :param events: the event log, a JSON object a line; empty where it was not wanted.
    """

    summary: Mapping[str, float]
    mechanism: Mapping[str, float]
    events: str

    def write(self, folder: Path) -> None:
        """Write ``events.jsonl`` and ``summary.json``, each whole or not at all."""
        write_whole(folder / "events.jsonl", self.events)
        write_json(folder / "summary.json", self.summary)


def file_jobs(
    workload: Path,
    fleet: Path,
    policies: Sequence[str],
    objective: str,
    seed: int,
    keeps_events: bool,
    models: Mapping[str, str],
) -> list[FileJob]:
    """Runs of the policies, and of round robin, to which all of them are compared.

    :param keeps_events: of the policies that are asked for.
    """
    return [
        FileJob(workload, fleet, policy, objective, seed, keeps_events and policy in policies, models)
        for policy in dict.fromkeys([BASELINE, *policies])
    ]


def execute_file(job: FileJob) -> FileOutcome:
    """Simulate it."""
    from airflow_fate.simulator.files import read_inputs
    from airflow_fate.simulator.simulate import simulate

    workload, fleet = read_inputs(job.workload, job.fleet, job.models)
    run = simulate(workload, fleet, job.policy, objective=job.objective, seed=job.seed)
    events = "".join(json.dumps(event, allow_nan=False) + "\n" for event in run.events) if job.keeps_events else ""
    return FileOutcome(run.summary, run.mechanism, events)


def over_baseline(outcomes: Mapping[str, FileOutcome], policy: str) -> dict[str, float]:
    """A policy's metrics over round robin's; empty without a run of that."""
    if BASELINE not in outcomes:
        return {}
    own, base = outcomes[policy].summary, outcomes[BASELINE].summary
    return {metric: own[key] / base[key] for metric, key in METRICS.items() if base[key]}
