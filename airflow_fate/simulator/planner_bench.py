"""How long does planning take? Random instances, planned by the greedy planner alone and with the solver behind it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np

from airflow_fate.physics import CostModel
from airflow_fate.planner import PlanConfig, plan
from airflow_fate.planner.validate import violations
from airflow_fate.simulator.instances import random_instance

GREEDY_LIMIT_S = 0.05
CPSAT_LIMIT_S = 0.2


def run(devices: Sequence[int], ready: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """One row per size and planner: percentiles in milliseconds, plans over the limit, plans that are invalid.

    Every repeat is another instance, planned once before it is timed, as a running scheduler has planned its workflows
    before.
    """
    configs = {
        "greedy": (PlanConfig(), GREEDY_LIMIT_S),
        "cpsat": (PlanConfig(deadline_s=CPSAT_LIMIT_S - GREEDY_LIMIT_S), CPSAT_LIMIT_S),
    }
    return [
        {"planner": name, "devices": size, "ready": stages, **_measure(size, stages, repeats, config, limit_s)}
        for size in devices
        for stages in ready
        for name, (config, limit_s) in configs.items()
    ]


def _measure(devices: int, ready: int, repeats: int, config: PlanConfig, limit_s: float) -> dict[str, Any]:
    seconds: list[float] = []
    invalid = 0
    for seed in range(repeats):
        frontier, workflows, state = random_instance(seed, devices, ready)
        plan(frontier, workflows, state, CostModel(), 0.0, config)
        gc.collect()
        begin = perf_counter()
        made = plan(frontier, workflows, state, CostModel(), 0.0, config)
        seconds.append(perf_counter() - begin)
        invalid += bool(violations(made, frontier, workflows, state))
    return {
        "p50_ms": 1000 * float(np.percentile(seconds, 50)),
        "p99_ms": 1000 * float(np.percentile(seconds, 99)),
        "missed_deadlines": sum(s > limit_s for s in seconds),
        "invalid_plans": invalid,
    }
