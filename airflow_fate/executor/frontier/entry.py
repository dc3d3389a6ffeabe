"""Who is in the frontier, and how far has it come?"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from airflow_fate.workflow import StageRef


class Phase(StrEnum):
    HELD = "held"
    CLAIMING = "claiming"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Entry:
    """One try of a task in the frontier.

    :param ti_id: the try's UUID.
    :param key: the executor's own key, never looked into here.
    :param ready_s: since when it is ready, over all times it was given back.
    :param queued_s: when Airflow queued it this time.
    :param reservation: ledger id, once claimed.
    :param held_because: why it was held the last time.
    :param is_told: whether its reader has been told why it waits.
    """

    ti_id: str
    key: Hashable
    ref: StageRef
    ready_s: float
    queued_s: float
    phase: Phase = Phase.HELD
    reservation: str = ""
    held_because: str = ""
    is_told: bool = False
