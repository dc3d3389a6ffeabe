"""What happened in a replay, in the simulator's format (docs/physics.md, "Event log")? Pure.

Gateways tell how long a request waited, loaded, was computed and decoded; the asker knows when its answer was there.
Windows are put together from both. Those of a single prompt are taken from its end backwards, for an engine may let a
prompt wait where its gateway doesn't see it; those of a batch are taken from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_fate.simulator.summary import figures
from airflow_fate.workflow import StageRef

if TYPE_CHECKING:
    from airflow_fate.messages import Facts
    from airflow_fate.replay.ask import Answer

Event = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """A shard of a stage that was answered.

    :param place: device or group.
    :param answers: of its prompts, in their order.
    :param facts: what its device measured.
    :param evicted: models that made room for its own.
    :param source: where its model was loaded from, if it was: ``disk`` or ``host``.
    """

    place: str
    model: str
    answers: tuple[Answer, ...]
    facts: Facts
    evicted: tuple[str, ...] = ()
    source: str = "disk"

    @property
    def ended_s(self) -> float:
        return max(answer.ended_s for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Windows:
    """When a shard's phases began and ended, in Unix seconds."""

    load_s: float
    loaded_s: float
    prefill_s: float
    prefilled_s: float
    ended_s: float


def windows(served: Served) -> Windows:
    """One phase after the other, from the first question to the last answer."""
    facts, ended_s = served.facts, served.ended_s
    load_s = min(min(answer.asked_s for answer in served.answers) + facts.wait_s, ended_s)
    loaded_s = min(load_s + facts.load_s, ended_s)
    if len(served.answers) == 1 and facts.decode_s:
        prefilled_s = max(loaded_s, ended_s - facts.decode_s)
        prefill_s = max(loaded_s, prefilled_s - facts.prefill_s)
    else:
        prefill_s = loaded_s
        seconds = facts.prefill_s or max(0.0, facts.first_byte_s - facts.wait_s - facts.load_s)
        prefilled_s = min(prefill_s + seconds, ended_s)
    return Windows(load_s, loaded_s, prefill_s, prefilled_s, ended_s)


class Log:
    """The events so far.

    :param began_s: when the replay began, in Unix seconds; the log's 0.
    """

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """By time; what happens at one time stays in the order of its causes."""
        return sorted(self._events, key=lambda event: float(event["t"]))

    def of_workflow(self, event: str, workflow: str, at_s: float) -> None:
        """``arrive`` or ``done``."""
        self._add(at_s, event, workflow=workflow)

    def of_stage(self, event: str, ref: StageRef, at_s: float, **more: Any) -> None:
        """``ready`` or ``finish``; ``tool``; ``fail``, which only replays have."""
        self._add(at_s, event, workflow=ref.workflow, stage=ref.stage, **more)

    def served(self, ref: StageRef, shards: Sequence[Served], bound_s: float, expected_end_s: float) -> None:
        """All that a stage's shards did.

        :param expected_end_s: when the planner expected the stage to end, as it bound it; Unix seconds.
        """
        for number, shard in enumerate(shards):
            self._shard(ref, number, shard, bound_s, expected_end_s)

    def _shard(self, ref: StageRef, number: int, shard: Served, bound_s: float, expected_end_s: float) -> None:
        at, first = windows(shard), shard.answers[0].usage
        here = {"workflow": ref.workflow, "stage": ref.stage, "shard": number, "device": shard.place}
        bound = {"model": shard.model, "prompts": len(shard.answers)}
        self._add(bound_s, "bind", **here, **bound, expected_end_s=expected_end_s - self._began_s)
        if shard.facts.load_s:
            for model in shard.evicted:
                self._add(at.load_s, "evict", device=shard.place, model=model)
            load = {"device": shard.place, "model": shard.model, "seconds": at.loaded_s - at.load_s}
            self._add(at.load_s, "load", **load, source=shard.source, why="demand")
        computed = sum(answer.usage.prompt_tokens - (answer.usage.cached_tokens or 0) for answer in shard.answers)
        prefill = {"tokens": computed, "cached": first.cached_tokens or 0, "seconds": at.prefilled_s - at.prefill_s}
        self._add(at.prefill_s, "prefill", **here, model=shard.model, **prefill)
        self._add(at.prefilled_s, "decode", **here, model=shard.model, seconds=at.ended_s - at.prefilled_s)

    def _add(self, at_s: float, event: str, **more: Any) -> None:
        self._events.append({"t": max(0.0, at_s - self._began_s), "event": event, **more})


def summary(events: Iterable[Event], planning_s: Sequence[float], lower_bound_s: float) -> dict[str, float]:
    """``summary.json``'s keys, of the workflows that ended; empty where none did."""
    by_kind: dict[str, list[Event]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    arrived_s = {event["workflow"]: event["t"] for event in by_kind.get("arrive", ())}
    latency_s = [event["t"] - arrived_s[event["workflow"]] for event in by_kind.get("done", ())]
    if not latency_s:
        return {}
    ready_s = {(event["workflow"], event["stage"]): event["t"] for event in by_kind.get("ready", ())}
    prefills = by_kind.get("prefill", [])
    begun_s: dict[tuple[str, str], float] = {}
    for event in prefills:
        ref = (event["workflow"], event["stage"])
        begun_s[ref] = min(event["t"], begun_s.get(ref, np.inf))
    return figures(
        makespan_s=max(event["t"] for event in by_kind["finish"]),
        latency_s=np.array(latency_s),
        load_s=np.array([event["seconds"] for event in by_kind.get("load", ())], dtype=float),
        cached_tokens=np.array([event["cached"] for event in prefills], dtype=float),
        prefill_tokens=np.array([event["tokens"] for event in prefills], dtype=float),
        moved_bytes=np.zeros(0),
        wait_s=np.array([begun - ready_s[ref] for ref, begun in begun_s.items()], dtype=float),
        planning_s=planning_s,
        lower_bound_s=lower_bound_s,
    )
