"""Who runs where, and why? The planner's contract: its answer, and its inputs beside cluster and workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from airflow_fate.cluster import ClusterState
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.workflow import StageRef, Workflow


@dataclass(frozen=True, slots=True)
class ReadyStage:
    """A stage of the frontier: all its parents have ended.

    :param ready_s: since when.
    :param avoid: places on which an earlier try of it failed.
    """

    ref: StageRef
    ready_s: float
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Share:
    """The prompts of a stage that go to one place, and what that costs there."""

    place: str
    prompts: int
    cost: CostParts


@dataclass(frozen=True, slots=True)
class Assignment:
    """A stage is bound to one place, to several devices (shards), or to one group.

    :param start_s: when it may begin there (prefill lane idle, room for its sequences).
    :param finish_s: estimated end of the last share.
    :param evict: (place, model) pairs that make room for its model.
    :param reason: in words, for a person.
    """

    ref: StageRef
    model: str
    shares: tuple[Share, ...]
    start_s: float
    finish_s: float
    evict: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    future_s: float = 0.0
    """Seconds that the state it leaves costs (positive) or saves what comes next."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A stage stays in the frontier, waiting for a place until about ``until_s``; no ``place`` when none is left."""

    ref: StageRef
    place: str
    until_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """No place of the fleet, even empty, can ever serve the stage."""

    ref: StageRef
    reason: str


class ActionKind(StrEnum):
    PREFETCH = "prefetch"
    EVICT = "evict"
    REPLICATE = "replicate"


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do to a place ahead of any stage."""

    kind: ActionKind
    place: str
    model: str
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """The planner's answer for one frontier: every ready stage is in exactly one of the first three.

    :param solver: who made it (``greedy``, ``cpsat``, or a baseline's name).
    :param status: the solver's own word (``HEURISTIC``, ``OPTIMAL``, ``FEASIBLE``).
    """

    assignments: tuple[Assignment, ...] = ()
    holds: tuple[Hold, ...] = ()
    impossible: tuple[Impossible, ...] = ()
    actions: tuple[Action, ...] = ()
    solver: str = ""
    status: str = "HEURISTIC"
    objective_s: float = 0.0
    bound_s: float = 0.0


@dataclass(frozen=True)
class PlanConfig:
    """What a caller may set.

    :param horizon_s: how far ahead a busy device is a candidate.
    :param deadline_s: wall time for improvement beyond the incumbent; 0 turns the solver off.
    :param deterministic_limit: CP-SAT's deterministic time, for reproducible runs; 0 is none.
    """

    objective: str = "balanced"
    horizon_s: float = 10.0
    deadline_s: float = 0.0
    deterministic_limit: float = 0.0
    shards: bool = True
    shard_backlog: float = 0.5
    """Shards are used only while ready LLM stages per usable place stay below this."""
    eviction_harm_weight: float = 0.5
    bind_ahead_s: float = 2.0
    """A stage may be bound this long before the prefill lane is free, so that no lane waits for a heartbeat."""
    copy_weight: float = 1.0
    """What a second of computing a prefix again counts, which another place has, while others want the time."""
    seed: int = 0
    options: Mapping[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """The one signature of FATE and every baseline."""

    def __call__(
        self,
        frontier: Sequence[ReadyStage],
        workflows: Mapping[str, Workflow],
        state: ClusterState,
        costs: CostModel,
        now: float,
        config: PlanConfig,
    ) -> Plan: ...
