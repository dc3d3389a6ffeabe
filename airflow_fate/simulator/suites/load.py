"""How much work is a workload for a fleet? So that arrivals can be set to a share of what the fleet can do."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.suites.scenario import LOADS
from airflow_fate.simulator.suites.traces import arrivals
from airflow_fate.workflow import Stage, StageRef, Workflow

_BURST_S = 2.0


def work_s(workflows: Iterable[Workflow], output_tokens: Mapping[StageRef, int], fleet: Fleet) -> float:
    """Seconds that it keeps the whole fleet busy, were every model everywhere, nothing cached and nobody waiting."""
    return sum(
        _stage_work_s(stage, output_tokens[StageRef(workflow.id, stage.id)], fleet)
        for workflow in workflows
        for stage in workflow.stages.values()
        if stage.is_llm
    )


def arrival_times(rng: random.Random, count: int, load: str, work_s: float) -> list[float]:
    """When ``count`` workflows arrive that are ``work_s`` of work together.

    :param load: one of ``LOADS``.
    """
    offered = LOADS[load]
    times = arrivals(rng, count, _BURST_S if offered is None else work_s / offered)
    return [round(time_s, 3) for time_s in times]


def _stage_work_s(stage: Stage, output_tokens: int, fleet: Fleet) -> float:
    model = fleet.models[stage.model]
    shared = sum(segment.tokens for segment in stage.prefix)
    tokens = stage.prompt_tokens + (stage.prompts - 1) * max(1, stage.prompt_tokens - shared)
    per_second = 0.0
    for place in fleet.places:
        if not fleet.can_hold(place, stage.model):
            continue
        leader = fleet.members(place)[0]
        crowded_tps = model.decode_tps[leader.gpu] / (1 + fleet.decode_slowdown * (leader.max_seqs - 1))
        decode_s = stage.prompts * output_tokens / crowded_tps / leader.max_seqs
        per_second += 1 / (tokens / model.prefill_tps[leader.gpu] + decode_s)
    return 1 / per_second
