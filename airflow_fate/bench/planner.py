"""How long does planning take? Random fleets in the middle of their work: plans, decisions alone, and searches.

By the clock, and by the processor's time of this process: where the two differ, something else had the processor.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np

from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.restart.snapshot import snapshot
from airflow_fate.physics.world.arrays import copy
from airflow_fate.planner import PlanConfig
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.fate import plan
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.plan import Placed, Problem
from airflow_fate.planner.search.improve import better_way
from airflow_fate.planner.validate import violations
from airflow_fate.planner.warm import warm
from airflow_fate.simulator.instances import random_instance

PLAN_LIMIT_S = 0.05
SEARCH_LIMIT_S = 0.2
OVERRUN_S = 0.05
"""A search that ends so long after its limit has missed it."""


class Elapsed(NamedTuple):
    """Seconds by the clock, and of the processor."""

    wall_s: float
    cpu_s: float


def measure(devices: Sequence[int], ready: Sequence[int], repeats: int, searches: int) -> dict[str, Any]:
    """Percentiles in milliseconds by size; and searches one after another, each with a plan by what it found."""
    sizes = [{"devices": d, "ready": r, **_size(d, r, repeats)} for d in devices for r in ready]
    return {"plans": sizes, "growth": _growth(sizes), "search": _search(searches)}


def _size(devices: int, ready: int, repeats: int) -> dict[str, Any]:
    """Every repeat is another instance, planned once before it is timed, as a running scheduler has planned its
    workflows before."""
    whole: list[Elapsed] = []
    decided: list[Elapsed] = []
    invalid = 0
    config = PlanConfig()
    for seed in range(repeats):
        frontier, workflows, state = random_instance(seed, devices, ready)
        problem = Problem(frontier, workflows, state, CostModel(), 0.0)
        invalid += bool(violations(plan(problem, config), problem))
        whole.append(_timed(lambda: plan(problem, config)))  # noqa: B023
        world = copy(snapshot(frontier, workflows.values(), state, CostModel(), 0.0).world)
        profile = make_profile(world)
        decided.append(_timed(lambda: dispatch(world, profile, GREEDY_IN_HEARTBEAT)))  # noqa: B023
    return {
        "plan": _spread(whole),
        "decide": _spread(decided),
        "over_limit": sum(elapsed.wall_s > PLAN_LIMIT_S for elapsed in whole),
        "over_limit_cpu": sum(elapsed.cpu_s > PLAN_LIMIT_S for elapsed in whole),
        "invalid_plans": invalid,
    }


def _growth(sizes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By devices: the exponent with which the median grows in ready stages, between the two largest numbers."""
    growth: dict[str, float] = {}
    for devices in sorted({size["devices"] for size in sizes}):
        rows = sorted((s["ready"], s["plan"]["p50_ms"]) for s in sizes if s["devices"] == devices)
        if len(rows) > 1:
            (few, short_ms), (many, long_ms) = rows[-2:]
            growth[str(devices)] = round(float(np.log(long_ms / short_ms) / np.log(many / few)), 2)
    return growth


def _search(searches: int) -> dict[str, Any]:
    # The executor's child, too, loads what it needs before it is asked.
    warm()
    times: list[Elapsed] = []
    invalid = jointly = 0
    for seed in range(searches):
        frontier, workflows, state = random_instance(seed, 16, 100)
        known = snapshot(frontier, workflows.values(), state, CostModel(), 0.0)
        rule = GREEDY_IN_HEARTBEAT
        begin = _now()
        better = better_way(known.world, rule, rule, "balanced", seed, SEARCH_LIMIT_S, clock=perf_counter)
        times.append(_since(begin))
        joint = tuple(
            Placed(known.frontier[stage], known.places[place], prompts) for stage, place, prompts in better.joint
        )
        jointly += bool(joint)
        config = PlanConfig(better.rule, joint, "search")
        problem = Problem(frontier, workflows, state, CostModel(), 0.0)
        invalid += bool(violations(plan(problem, config), problem))
    return {
        "searches": searches,
        "limit_ms": 1000 * SEARCH_LIMIT_S,
        **_spread(times),
        "missed_deadlines": sum(elapsed.wall_s > SEARCH_LIMIT_S + OVERRUN_S for elapsed in times),
        "missed_deadlines_cpu": sum(elapsed.cpu_s > SEARCH_LIMIT_S + OVERRUN_S for elapsed in times),
        "invalid_plans": invalid,
        "joint_assignments": jointly,
    }


def _timed(work: Callable[[], object]) -> Elapsed:
    gc.collect()
    begin = _now()
    work()
    return _since(begin)


def _now() -> Elapsed:
    return Elapsed(perf_counter(), process_time())


def _since(begin: Elapsed) -> Elapsed:
    now = _now()
    return Elapsed(now.wall_s - begin.wall_s, now.cpu_s - begin.cpu_s)


def _spread(times: Sequence[Elapsed]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    return {
        f"{name}p{q}_ms": round(1000 * float(np.percentile(seconds, q)), 2)
        for name, seconds in (("", [t.wall_s for t in times]), ("cpu_", [t.cpu_s for t in times]))
        for q in (50, 99)
    }
