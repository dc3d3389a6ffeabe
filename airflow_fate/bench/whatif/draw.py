"""What might really happen? Workflows with outputs drawn around their estimates, under one policy."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef, Workflow


@dataclass(frozen=True)
class DrawJob:
    """One policy on one draw.

    :param spread: sigma of the log-normal factor between an output and its estimate.
    """

    workflows: tuple[Workflow, ...]
    fleet: Fleet
    policy: str
    objective: str
    seed: int
    spread: float

    @property
    def title(self) -> str:
        """As progress names it."""
        return f"{self.policy}, seed {self.seed}"


def draw_jobs(
    workflows: tuple[Workflow, ...],
    fleet: Fleet,
    policies: Sequence[str],
    objective: str,
    seeds: Sequence[int],
    spread: float,
) -> list[DrawJob]:
    """Every policy on the same draws."""
    return [DrawJob(workflows, fleet, policy, objective, seed, spread) for seed in seeds for policy in policies]


def execute_draw(job: DrawJob) -> dict[str, float]:
    """The run's ``summary.json``."""
    workload = Workload("what if", job.workflows, _outputs(job.workflows, job.seed, job.spread))
    return simulate(workload, job.fleet, job.policy, objective=job.objective, seed=job.seed).summary


def _outputs(workflows: Sequence[Workflow], seed: int, spread: float) -> dict[StageRef, int]:
    """Means are the estimates, whatever the spread."""
    rng = random.Random(seed)
    return {
        StageRef(workflow.id, stage.id): round(
            stage.expected_output_tokens * math.exp(rng.gauss(0.0, spread) - spread**2 / 2)
        )
        for workflow in workflows
        for stage in workflow.stages.values()
        if stage.is_llm
    }
