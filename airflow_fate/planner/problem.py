"""What is to be decided now? The frontier in order, and the outlook at which every planner starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_fate.cluster import ClusterState
from airflow_fate.physics import CostModel
from airflow_fate.physics.residency import Harm
from airflow_fate.planner.need import LIGHT_LOAD, UNDER_LOAD, coming_work_s, eviction_harm
from airflow_fate.planner.outlook import Outlook, usable_places
from airflow_fate.planner.pace import Pace, pace
from airflow_fate.planner.plan import Impossible, PlanConfig, ReadyStage
from airflow_fate.planner.queue import Queued, in_order
from airflow_fate.planner.reasons import why_impossible
from airflow_fate.workflow import Workflow


@dataclass(frozen=True)
class Problem:
    """One call of the planner.

    :param queue: the stages that some place could serve, most urgent first.
    :param shards: whether the backlog is small enough for splitting batches.
    :param mean_stage_s: of the queue, on average places.
    """

    state: ClusterState
    costs: CostModel
    now: float
    config: PlanConfig
    queue: tuple[Queued, ...]
    impossible: tuple[Impossible, ...]
    mean_stage_s: float
    harm: Harm
    shards: bool

    def outlook(self) -> Outlook:
        """A fresh outlook, before anything is placed."""
        return Outlook(
            self.state,
            self.costs,
            self.now,
            [queued.demand for queued in self.queue],
            self.harm,
            bind_ahead_s=self.config.bind_ahead_s,
        )


def frame(
    frontier: Sequence[ReadyStage],
    workflows: Mapping[str, Workflow],
    state: ClusterState,
    costs: CostModel,
    now: float,
    config: PlanConfig,
) -> Problem:
    # Sums of floats depend on their order; the plan must not depend on the caller's.
    frontier = sorted(frontier, key=lambda ready: ready.ref)
    places = usable_places(state)
    models = {ready.ref: workflows[ready.ref.workflow].stages[ready.ref.stage].model for ready in frontier}
    refusals = {model: why_impossible(state.fleet, model) for model in sorted(set(models.values()))}
    impossible = [Impossible(ready.ref, reason) for ready in frontier if (reason := refusals[models[ready.ref]])]
    servable = [ready for ready in frontier if refusals[models[ready.ref]] is None]
    backlog = len(servable) / max(1, len(places))
    stage_pace = pace(state.fleet, costs, places)
    outreach = LIGHT_LOAD if backlog < config.shard_backlog else UNDER_LOAD
    work_s = coming_work_s((ready.ref for ready in servable), workflows, stage_pace, outreach)
    return Problem(
        state=state,
        costs=costs,
        now=now,
        config=config,
        queue=tuple(in_order(servable, workflows, stage_pace, now, config.objective)),
        impossible=tuple(impossible),
        mean_stage_s=_mean_stage_s(servable, workflows, stage_pace),
        harm=eviction_harm(state, costs, places, work_s, workflows.values(), config.eviction_harm_weight),
        shards=config.shards and backlog < config.shard_backlog,
    )


def _mean_stage_s(frontier: Sequence[ReadyStage], workflows: Mapping[str, Workflow], stage_pace: Pace) -> float:
    seconds = [stage_pace.stage_s(workflows[ready.ref.workflow].stages[ready.ref.stage]) for ready in frontier]
    return sum(seconds) / max(1, len(seconds))
