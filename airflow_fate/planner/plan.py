"""Who runs where, and why? The planner's contract: its answer, and its inputs beside cluster and workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from airflow_fate.cluster import ClusterState
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.planner.dispatch.rule import Rule
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

    :param start_s: when it may begin there (prefill slot idle, room for its sequences).
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
    """A stage stays in the frontier, waiting for a place until about ``until_s``, which is infinite where none is in
    sight; no ``place`` when none is left."""

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

    :param solver: who made it (``greedy``, ``search``, or a baseline's name).
    """

    assignments: tuple[Assignment, ...] = ()
    holds: tuple[Hold, ...] = ()
    impossible: tuple[Impossible, ...] = ()
    actions: tuple[Action, ...] = ()
    solver: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """Prompts of a stage that a joint assignment sends to a place."""

    ref: StageRef
    place: str
    prompts: int


@dataclass(frozen=True)
class PlanConfig:
    """How to decide.

    :param rule: FATE's greedy one where there is none.
    :param solver: who chose the rule.
    :param joint: the joint assignment with which to begin, as far as its stages wait and its places can begin; shares
        of a stage come one behind the other. The rule decides about the rest.
    """

    rule: Rule | None = None
    joint: tuple[Placed, ...] = ()
    solver: str = "greedy"


@dataclass(frozen=True)
class Problem:
    """What a plan is asked for: all that is known at one decision epoch.

    :param workflows: by id; at least those of the frontier.
    :param now: seconds on the clock of the workflows' arrivals and of the state.
    """

    frontier: Sequence[ReadyStage]
    workflows: Mapping[str, Workflow]
    state: ClusterState
    costs: CostModel
    now: float

    def of(self, frontier: Sequence[ReadyStage]) -> Problem:
        """The same for a part of the frontier, with that part's workflows."""
        ids = {ready.ref.workflow for ready in frontier}
        return replace(self, frontier=frontier, workflows={name: self.workflows[name] for name in ids})


class Policy(Protocol):
    """The one signature of FATE and every baseline."""

    def __call__(self, problem: Problem, config: PlanConfig) -> Plan: ...
