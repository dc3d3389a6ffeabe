"""How much work is a workload for a fleet? So that arrivals can be set to a share of what the fleet can do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.bound import least_busy_s
from airflow_fate.simulator.suites.scenario import LOADS
from airflow_fate.simulator.suites.traces import arrivals
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Workflow

_BURST_S = 2.0


def arriving(rng: random.Random, workload: Workload, fleet: Fleet, load: str) -> Workload:
    """The workload with its workflows arriving as the trace's requests do, as fast as the load says.

    :param load: one of ``LOADS``.
    """
    share = LOADS[load]
    span_s = _BURST_S if share is None else least_busy_s(workload, fleet) / share
    times = arrivals(rng, len(workload.workflows), span_s)
    return replace(workload, workflows=_at(workload.workflows, times))


def _at(workflows: Sequence[Workflow], times: Sequence[float]) -> tuple[Workflow, ...]:
    return tuple(replace(workflow, arrival_s=round(at, 3)) for workflow, at in zip(workflows, times, strict=True))
