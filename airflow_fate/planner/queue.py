"""Who goes first? The frontier in order of urgency: age plus the critical path that is still ahead.

The key ``arrival − upward rank`` is HEFT's rank (Topcuoglu et al., IEEE TPDS 2002) with ageing: the rank alone starves
short workflows under overload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_fate.physics import Demand, demand_of
from airflow_fate.planner.pace import Pace
from airflow_fate.planner.plan import ReadyStage
from airflow_fate.workflow import StageRef, Workflow


@dataclass(frozen=True, slots=True)
class Queued:
    """A ready stage with all that planning needs of it."""

    ref: StageRef
    demand: Demand
    avoid: frozenset[str]
    urgency_s: float


def upward_ranks_s(workflow: Workflow, pace: Pace) -> dict[str, float]:
    """Stage -> seconds of the longest path from its start to the workflow's end, on average places."""
    ranks_s: dict[str, float] = {}
    children = workflow.graph.adj
    for stage_id in reversed(workflow.order):
        ahead_s = max((ranks_s[child] for child in children[stage_id]), default=0.0)
        ranks_s[stage_id] = ahead_s + pace.stage_s(workflow.stages[stage_id])
    return ranks_s


def in_order(
    frontier: Sequence[ReadyStage], workflows: Mapping[str, Workflow], pace: Pace, now: float, objective: str
) -> list[Queued]:
    """The frontier, most urgent first; a tenant's weight multiplies its urgency.

    For the mean completion time, age does not count: the critical path alone does.
    """
    ranks_s: dict[str, dict[str, float]] = {}
    queue: list[tuple[float, float, StageRef, Queued]] = []
    for ready in frontier:
        workflow = workflows[ready.ref.workflow]
        if workflow.id not in ranks_s:
            ranks_s[workflow.id] = upward_ranks_s(workflow, pace)
        age_s = 0.0 if objective == "mean" else now - workflow.arrival_s
        urgency_s = workflow.weight * (age_s + ranks_s[workflow.id][ready.ref.stage])
        queued = Queued(ready.ref, demand_of(workflow, ready.ref.stage), ready.avoid, urgency_s)
        queue.append((-urgency_s, ready.ready_s, ready.ref, queued))
    queue.sort(key=lambda entry: entry[:3])
    return [entry[3] for entry in queue]
