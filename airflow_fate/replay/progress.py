"""Which stages are ready, and what is left? The state of all workflows, moved by what has happened. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from airflow_fate.workflow import StageRef, Workflow


class Progress:
    """How far each workflow is.

    :param workflows: by id.
    """

    def __init__(self, workflows: Iterable[Workflow]) -> None:
        self._workflows = {workflow.id: workflow for workflow in workflows}
        self.ended_s: dict[StageRef, float] = {}
        self.failed: dict[str, str] = {}
        """Workflow that can't end -> why."""

    @property
    def is_over(self) -> bool:
        """Whether each workflow has ended or failed."""
        return all(name in self.failed or self.is_done(name) for name in self._workflows)

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        """By id, with the stages that have ended."""
        return self._workflows

    def is_done(self, workflow: str) -> bool:
        return len(self._workflows[workflow].finished) == len(self._workflows[workflow].stages)

    def first_ready(self, workflow: str) -> list[StageRef]:
        """The stages that are ready when the workflow arrives."""
        known = self._workflows[workflow]
        return [StageRef(workflow, stage) for stage in known.order if not known.parents(stage)]

    def ended(self, ref: StageRef, at_s: float) -> list[StageRef]:
        """A stage has ended; returns those that are ready now."""
        self.ended_s[ref] = at_s
        known = self._workflows[ref.workflow]
        known = self._workflows[ref.workflow] = replace(known, finished=known.finished | {ref.stage})
        if ref.workflow in self.failed:
            return []
        return [
            StageRef(ref.workflow, child)
            for child in known.children(ref.stage)
            if known.finished.issuperset(known.parents(child))
        ]

    def ready_s(self, ref: StageRef) -> float:
        """When the stage became ready: at its workflow's arrival, or when the last of its parents ended."""
        known = self._workflows[ref.workflow]
        ends = (self.ended_s[StageRef(ref.workflow, parent)] for parent in known.parents(ref.stage))
        return max(ends, default=known.arrival_s)

    def done_s(self, workflow: str) -> float:
        return max(self.ended_s[StageRef(workflow, stage)] for stage in self._workflows[workflow].stages)

    def fail(self, workflow: str, why: str) -> None:
        """The workflow can't end any more; what runs of it may."""
        self.failed.setdefault(workflow, why)
