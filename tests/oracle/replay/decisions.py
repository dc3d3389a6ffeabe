"""What did the policy of a run decide? All that an event log does not get from physics alone.

Models that leave to make room are counted among the decisions: who must leave, physics does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_fate.workflow import StageRef


@dataclass(frozen=True)
class Bind:
    """Some of a stage's prompts go to a place."""

    t_s: float
    ref: StageRef
    shard: int
    place: str
    prompts: int


@dataclass(frozen=True)
class Evict:
    """A model leaves a place."""

    t_s: float
    place: str
    model: str


@dataclass(frozen=True)
class Ahead:
    """A model is loaded before a shard asks for it: ``prefetch`` or ``replicate``."""

    t_s: float
    place: str
    model: str
    why: str


Decision = Bind | Evict | Ahead


def decisions(events: Iterable[Mapping[str, Any]]) -> list[Decision]:
    """The decisions in an event log, in its order."""
    decided: list[Decision] = []
    for event in events:
        if event["event"] == "bind":
            ref = StageRef(event["workflow"], event["stage"])
            decided.append(Bind(event["t"], ref, event["shard"], event["device"], event["prompts"]))
        elif event["event"] == "evict":
            decided.append(Evict(event["t"], event["device"], event["model"]))
        elif event["event"] == "load" and event["why"] != "demand":
            decided.append(Ahead(event["t"], event["device"], event["model"], event["why"]))
    return decided
