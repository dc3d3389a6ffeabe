"""What is true while one heartbeat lasts? One value, which each of its steps gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask

    from airflow_fate.state.ledger import Reservation
    from airflow_fate.state.source import FleetView
    from airflow_fate.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Cycle:
    """One heartbeat's facts.

    :param now: Unix seconds, when the heartbeat began.
    :param view: the fleet, where devices that are backed off from get nothing.
    :param live: the reservations of all schedulers that have not ended.
    :param workloads: held tasks by the UUID of their try.
    :param workflows: the held tasks' runs by id; empty until they are planned.
    :param warnings: try -> what its task is to be warned of.
    """

    now: float
    view: FleetView
    live: tuple[Reservation, ...]
    workloads: Mapping[str, ExecuteTask]
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
