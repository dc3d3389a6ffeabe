"""What has been run already? One small file for each run, whole or absent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from airflow_fate.atomic import write_json
from airflow_fate.bench.suite.job import Job, Outcome
from airflow_fate.bench.suite.origin import suite_digest


@dataclass(frozen=True)
class Store:
    """The results below a folder."""

    folder: Path

    def load(self, job: Job) -> Outcome | None:
        """The result of this very run, or None when there is none, or one of other scenarios under the same name."""
        try:
            outcome = Outcome.from_document(json.loads((self.folder / job.path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        same = outcome.job == job and dict(outcome.job.options) == dict(job.options)
        return outcome if same and outcome.suite_digest == suite_digest() else None

    def save(self, outcome: Outcome) -> None:
        write_json(self.folder / outcome.job.path, outcome.document())
