"""What did a policy reach? The benchmark's figures, from a world that was played (docs/physics.md, "Event log")."""

from __future__ import annotations

import numpy as np

from airflow_fate.physics.dynamics import log as kinds
from airflow_fate.physics.world.encode import Encoded


def summarize(encoded: Encoded, planning_s: list[float], lower_bound_s: float) -> dict[str, float]:
    """``summary.json``'s keys.

    :param planning_s: seconds of each plan.
    """
    world = encoded.world
    log = world.log[: world.tally[0].logged]
    latency = np.sort(world.workflows["done_s"] - world.workflows["arrival_s"])
    loads, prefills = log[log["kind"] == kinds.LOAD], log[log["kind"] == kinds.PREFILL]
    llm = world.stages[world.stages["tool"] == 0]
    begun = np.full(len(world.stages), np.inf)
    np.minimum.at(begun, prefills["stage"], prefills["t"])
    plan_ms = np.percentile(planning_s, [50, 99]) if planning_s else np.zeros(2)
    return {
        "makespan_s": float(world.stages["finish_s"].max()),
        "mean_s": float(latency.mean()),
        **{f"p{percent}_s": float(nearest_rank(latency, percent)) for percent in (50, 95, 99)},
        "loads": len(loads),
        "load_s": float(loads["seconds"].sum()),
        "cached_tokens": float(prefills["cached"].sum()),
        "prefill_tokens": float(prefills["tokens"].sum()),
        "moved_bytes": float(log["moved_bytes"][log["kind"] == kinds.TRANSFER].sum()),
        "wait_s": float((begun[world.stages["tool"] == 0] - llm["ready_s"]).sum()),
        "plans": len(planning_s),
        "plan_p50_s": float(plan_ms[0]),
        "plan_p99_s": float(plan_ms[1]),
        "lower_bound_s": lower_bound_s,
    }


def nearest_rank(ascending: np.ndarray, percent: float) -> float:
    """The smallest value that at least ``percent`` of all don't exceed."""
    at = int(np.ceil(len(ascending) * percent / 100)) - 1
    return float(ascending[max(0, at)])
