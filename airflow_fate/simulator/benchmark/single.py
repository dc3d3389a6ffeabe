"""How does a policy do on a workload from a file? Its summary and its event log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_fate.simulator.atomic import write_whole


@dataclass(frozen=True)
class FileJob:
    """One policy on the workload of a file.

    :param keep: whether the events are wanted, too.
    """

    workload: Path
    fleet: Path
    policy: str
    objective: str
    seed: int
    keep: bool


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
        write_whole(folder / "summary.json", json.dumps(self.summary, indent=1, allow_nan=False) + "\n")


def execute_file(job: FileJob) -> FileOutcome:
    """Simulate it."""
    from airflow_fate.simulator.files import read_inputs
    from airflow_fate.simulator.simulate import simulate

    workload, fleet = read_inputs(job.workload, job.fleet)
    run = simulate(workload, fleet, job.policy, objective=job.objective, seed=job.seed)
    events = "".join(json.dumps(event, allow_nan=False) + "\n" for event in run.events) if job.keep else ""
    return FileOutcome(run.summary, run.mechanism, events)
