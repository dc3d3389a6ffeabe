"""What did a policy reach? The benchmark's figures, from a world that was played (docs/physics.md, "Event log")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.dynamics import log as kinds
from airflow_fate.physics.world.encode import Encoded

Floats = NDArray[np.float64]


def summarize(encoded: Encoded, planning_s: list[float], lower_bound_s: float) -> dict[str, float]:
    """``summary.json``'s keys.

    :param planning_s: seconds of each plan.
    """
    world = encoded.world
    log = world.log[: world.tally[0].logged]
    loads, prefills = log[log["kind"] == kinds.LOAD], log[log["kind"] == kinds.PREFILL]
    llm = world.stages[world.stages["tool"] == 0]
    begun = np.full(len(world.stages), np.inf)
    np.minimum.at(begun, prefills["stage"], prefills["t"])
    return figures(
        makespan_s=float(world.stages["finish_s"].max()),
        latency_s=world.workflows["done_s"] - world.workflows["arrival_s"],
        load_s=loads["seconds"],
        cached_tokens=prefills["cached"],
        prefill_tokens=prefills["tokens"],
        moved_bytes=log["moved_bytes"][log["kind"] == kinds.TRANSFER],
        wait_s=begun[world.stages["tool"] == 0] - llm["ready_s"],
        planning_s=planning_s,
        lower_bound_s=lower_bound_s,
    )


def figures(
    *,
    makespan_s: float,
    latency_s: Floats,
    load_s: Floats,
    cached_tokens: Floats,
    prefill_tokens: Floats,
    moved_bytes: Floats,
    wait_s: Floats,
    planning_s: Sequence[float],
    lower_bound_s: float,
) -> dict[str, float]:
    """``summary.json``'s keys, of whatever was played.

    :param latency_s: [workflow], from arrival to end; one at least.
    :param load_s: [load]
    :param cached_tokens: [prefill]
    :param prefill_tokens: [prefill], computed.
    :param moved_bytes: [transfer]
    :param wait_s: [LLM stage], from ready to its first prefill.
    :param planning_s: [plan]
    """
    latency = np.sort(latency_s)
    plan_s = np.percentile(planning_s, [50, 99]) if planning_s else np.zeros(2)
    return {
        "makespan_s": makespan_s,
        "mean_s": float(latency.mean()),
        **{f"p{percent}_s": float(nearest_rank(latency, percent)) for percent in (50, 95, 99)},
        "loads": len(load_s),
        "load_s": float(load_s.sum()),
        "cached_tokens": float(cached_tokens.sum()),
        "prefill_tokens": float(prefill_tokens.sum()),
        "moved_bytes": float(moved_bytes.sum()),
        "wait_s": float(wait_s.sum()),
        "plans": len(planning_s),
        "plan_p50_s": float(plan_s[0]),
        "plan_p99_s": float(plan_s[1]),
        "lower_bound_s": lower_bound_s,
    }


def nearest_rank(ascending: np.ndarray, percent: float) -> float:
    """The smallest value that at least ``percent`` of all don't exceed."""
    at = int(np.ceil(len(ascending) * percent / 100)) - 1
    return float(ascending[max(0, at)])
