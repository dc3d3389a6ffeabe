"""What is to be done about a task of the frontier?"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.executor.frontier.entry import Entry
from airflow_fate.planner.plan import Assignment


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask the ledger for the devices of an assignment; answer with Claimed or ClaimLost.

    :param solver: who made the assignment.
    """

    entry: Entry
    assignment: Assignment
    solver: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Write the binding and give the task to the inner executor; answer with HandoverFailed where that fails."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Fail:
    """Let the task fail with a reason: nothing can ever serve it, or it may not be served."""

    entry: Entry
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """End a reservation in the ledger."""

    reservation: str
    outcome: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Return the task to Airflow's scheduler, which will queue it anew: it must not grow old as QUEUED."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class PassOn:
    """Give the task to the inner executor as it is."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the task's reader why it waits."""

    entry: Entry
    text: str


Instruction = Claim | Dispatch | Fail | Release | GiveBack | PassOn | Say
