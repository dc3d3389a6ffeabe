"""How does one policy play a workload, from a fleet that is made ready to figures and files?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_fate.atomic import write_json, write_whole
from airflow_fate.executor.planning.decider import Decider, SearchSettings
from airflow_fate.executor.planning.snapshot import host_models
from airflow_fate.executor.planning.solver import SolverProcess
from airflow_fate.planner.registry import FATE
from airflow_fate.replay.ask import Gateways
from airflow_fate.replay.driver import Lesson, Replay
from airflow_fate.replay.fleet import check_free, make_alike
from airflow_fate.replay.log import Event, summary
from airflow_fate.simulator.bound import lower_bounds
from airflow_fate.simulator.workload import Workload
from airflow_fate.state.source import StateSource
from airflow_fate.workflow import StageRef


@dataclass(frozen=True)
class Played:
    """What came of one policy's replay.

    :param events: rows of ``events.jsonl``.
    :param summary: ``summary.json``; empty when no workflow has ended.
    :param failed: workflow that could not end -> why.
    :param host_models: node id -> models whose weights lay in its host memory when it began.
    :param counted_over_asked: prompt tokens as engines counted them over those that the workload says.
    :param is_whole: whether it went on to its end.
    """

    policy: str
    events: list[Event]
    summary: dict[str, float]
    failed: Mapping[str, str]
    lessons: tuple[Lesson, ...]
    host_models: Mapping[str, frozenset[str]]
    counted_over_asked: float
    is_whole: bool

    def write(self, folder: Path) -> None:
        """Write ``events.jsonl`` and, when a workflow has ended, ``summary.json``; each whole or not at all."""
        write_whole(
            folder / "events.jsonl", "".join(json.dumps(event, allow_nan=False) + "\n" for event in self.events)
        )
        if self.summary:
            write_json(folder / "summary.json", self.summary)


async def play_policy(
    workload: Workload,
    source: StateSource,
    secret: str,
    policy: str,
    search: SearchSettings,
    on_end: Callable[[StageRef], None],
) -> Played:
    """Make the fleet ready and play. When it is cancelled, what was played until then is returned.

    :param workload: as ``prepare.as_played`` makes it.
    :param search: for FATE, which searches in a child process.
    :param on_end: called with each stage that has ended.
    :raises FleetError: when the fleet can't be used, or is lost.
    """
    gateways = Gateways(secret)
    decider = Decider(policy, SolverProcess() if policy == FATE else None, search)
    try:
        await check_free(gateways, source.snapshot())
        models = {stage.model for workflow in workload.workflows for stage in workflow.stages.values() if stage.is_llm}
        await asyncio.to_thread(decider.warm)
        await make_alike(gateways, source.snapshot(), models)
        view = source.snapshot()
        replay = Replay(workload, source, gateways, secret, decider, on_end)
        is_whole = True
        try:
            await replay.play()
        except asyncio.CancelledError:
            is_whole = False
        return _played(policy, replay, workload, host_models(view), is_whole)
    finally:
        decider.stop()
        await gateways.close()


def _played(
    policy: str, replay: Replay, workload: Workload, in_memory: Mapping[str, frozenset[str]], is_whole: bool
) -> Played:
    events = replay.log.events
    fleet = replay.fleet
    bound_s = lower_bounds(workload, fleet, replay.learned.costs, in_memory).makespan_s if is_whole else 0.0
    return Played(
        policy,
        events,
        summary(events, replay.planning_s, bound_s),
        dict(replay.failures),
        tuple(replay.lessons),
        in_memory,
        replay.counted_tokens / replay.asked_tokens if replay.asked_tokens else 1.0,
        is_whole,
    )
