"""What can happen to a task of the frontier?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from airflow_fate.planner.plan import Plan
from airflow_fate.workflow import StageRef


@dataclass(frozen=True, slots=True)
class Queued:
    """Airflow handed a task over."""

    ti_id: str
    key: Hashable
    ref: StageRef
    now: float


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner answered for held tasks."""

    plan: Plan
    now: float


@dataclass(frozen=True, slots=True)
class NotPlanned:
    """The planner was not asked about some held tries.

    :param reasons: try -> why.
    """

    reasons: Mapping[str, str]
    now: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Some held tries can only fail: a spec can't be read, a connection or a run can't be used, a budget is used up.

    :param reasons: try -> why.
    """

    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Held tries that turned out to run elsewhere than on the fleet."""

    ti_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The ledger granted all devices of an assignment."""

    ti_id: str
    reservation: str


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """The ledger was not asked, failed, or refused: someone else took the room."""

    ti_id: str


@dataclass(frozen=True, slots=True)
class HandoverFailed:
    """The binding could not be given to a claimed task, which therefore has not started."""

    ti_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Tries that the database says have ended (or deferred)."""

    ti_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Airflow takes a task back."""

    ti_id: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """A running task of a scheduler that died, with its live reservation."""

    ti_id: str
    key: Hashable
    ref: StageRef
    reservation: str
    now: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes."""

    now: float


Event = (
    Queued
    | Planned
    | NotPlanned
    | Rejected
    | Elsewhere
    | Claimed
    | ClaimLost
    | HandoverFailed
    | Ended
    | Revoked
    | Adopted
    | Tick
)
