"""What does an event log say of each shard?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Stage, StageRef, Workflow

Event = dict[str, Any]
SAME_S = 1e-6


@dataclass(frozen=True)
class Span:
    """A shard from its bind to the end of its decode."""

    bind: Event
    prefill: Event
    decode: Event

    @property
    def ref(self) -> StageRef:
        return StageRef(self.bind["workflow"], self.bind["stage"])

    @property
    def place(self) -> str:
        return str(self.bind["device"])

    @property
    def prefilled_s(self) -> float:
        return float(self.prefill["t"] + self.prefill["seconds"])

    @property
    def end_s(self) -> float:
        return float(self.decode["t"] + self.decode["seconds"])


@dataclass(frozen=True)
class Log:
    workload: Workload
    fleet: Fleet
    events: list[Event]

    @cached_property
    def by_kind(self) -> dict[str, list[Event]]:
        by_event: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            by_event[event["event"]].append(event)
        return by_event

    @cached_property
    def workflows(self) -> dict[str, Workflow]:
        return {workflow.id: workflow for workflow in self.workload.workflows}

    @cached_property
    def stages(self) -> dict[StageRef, Stage]:
        return {StageRef(w.id, stage.id): stage for w in self.workload.workflows for stage in w.stages.values()}

    def times(self, kind: str) -> dict[StageRef, float]:
        return {StageRef(event["workflow"], event["stage"]): event["t"] for event in self.by_kind[kind]}

    def shard_events(self, kind: str) -> dict[tuple[str, str, int], Event]:
        return {(event["workflow"], event["stage"], event["shard"]): event for event in self.by_kind[kind]}

    @cached_property
    def spans(self) -> list[Span]:
        prefills, decodes = self.shard_events("prefill"), self.shard_events("decode")
        return [Span(bind, prefills[key], decodes[key]) for key, bind in self.shard_events("bind").items()]

    def spans_of(self, ref: StageRef) -> list[Span]:
        return [span for span in self.spans if span.ref == ref]

    def members(self, place: str) -> set[str]:
        return {device.id for device in self.fleet.members(place)}

    def node(self, place: str) -> str:
        return self.fleet.members(place)[0].node

    def gpu(self, place: str) -> str:
        return self.fleet.members(place)[0].gpu


def same(value: float, other: float) -> bool:
    return abs(value - other) <= SAME_S * max(1.0, abs(value), abs(other))


def overlap(spans: Iterable[tuple[float, float]]) -> bool:
    ordered = sorted(spans)
    return any(after[0] < before[1] - SAME_S for before, after in pairwise(ordered))
