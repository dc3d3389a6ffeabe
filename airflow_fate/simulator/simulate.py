"""What would a policy make of a workload? One simulation, from files' values to events and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.physics.world.encode import encode
from airflow_fate.planner.drivers import driver
from airflow_fate.simulator.bound import lower_bounds
from airflow_fate.simulator.events import event_log
from airflow_fate.simulator.summary import summarize
from airflow_fate.simulator.workload import Workload


@dataclass(frozen=True)
class Run:
    """A simulation that has ended.

    :param events: rows of ``events.jsonl``.
    :param summary: ``summary.json``.
    :param mechanism: how the figures came about, beyond the summary.
    """

    events: list[dict[str, Any]]
    summary: dict[str, float]
    mechanism: dict[str, float] = field(default_factory=dict)


def simulate(
    workload: Workload,
    fleet: Fleet,
    policy: str,
    *,
    objective: str = "balanced",
    seed: int = 0,
    options: Mapping[str, float] | None = None,
) -> Run:
    """Run the workload under a policy. Equal arguments give equal events.

    :param objective: for policies that can use one.
    :param options: FATE's parts, by name, to switch or bound.
    :raises ValueError: naming an unknown policy, objective or option.
    """
    drive = driver(policy, objective, seed, options or {})
    encoded = encode(workload.workflows, fleet, output_tokens=workload.output_tokens)
    planning_s = drive(encoded.world, perf_counter)
    bounds = lower_bounds(workload, fleet)
    return Run(
        event_log(encoded),
        summarize(encoded, planning_s, bounds.makespan_s),
        {"mean_bound_s": bounds.mean_s, "p95_bound_s": bounds.p95_s},
    )
