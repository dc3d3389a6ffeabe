"""What is simulated? Workflows with their arrivals, and the truth about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_fate.workflow import StageRef, Workflow


@dataclass(frozen=True)
class Workload:
    """Workflows with their arrivals, and what only the simulation knows of them.

    :param output_tokens: how many tokens each LLM stage will really write, per prompt; no policy may see it.
    """

    name: str
    workflows: tuple[Workflow, ...]
    output_tokens: Mapping[StageRef, int]
