"""What would a policy make of a workload? One simulation, from files' values to events and figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from types import MappingProxyType
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.physics.costs import CostModel
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
    costs: CostModel | None = None,
    host_models: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Run:
    """Run the workload under a policy. Equal arguments give equal events.

    :param objective: for policies that can use one.
    :param options: FATE's parts, by name, to switch or bound.
    :param costs: the fleet's speeds as measured; as described, where there are none.
    :param host_models: node id -> models whose weights lie in its host memory when it begins.
    :raises ValueError: naming an unknown policy, objective or option.
    """
    drive = driver(policy, objective, seed, options or {})
    encoded = encode(workload.workflows, fleet, costs, workload.output_tokens, host_models=host_models)
    planning_s = drive(encoded.world, perf_counter)
    bounds = lower_bounds(workload, fleet, costs, host_models)
    return Run(
        event_log(encoded),
        summarize(encoded, planning_s, bounds.makespan_s),
        {"mean_bound_s": bounds.mean_s, "p95_bound_s": bounds.p95_s},
    )
