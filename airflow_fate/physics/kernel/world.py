"""What does the kernel work on? The fleet, the work and their state as record arrays.

One row is one thing; the columns carry the names and units of the values they were made from. Indices are positions in
the arrays; -1 is none. A place is a device or, behind all devices, a group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel.bundle import Bundle

Records = Any
"""A record array; its element types are the dtypes below."""

WAITING, READY, BOUND, DONE = 0, 1, 2, 3
"""Status of a stage."""

ABSENT, ASKED, LOADING, LOADED = 0, 1, 2, 3
"""Status of a model on a place."""

DEMAND, PREFETCH, REPLICATE = 0, 1, 2
"""Why a model is loaded."""

STAGE = np.dtype(
    [
        ("workflow", "i8"),
        ("tool", "i8"),
        ("model", "i8"),
        ("prompts", "i8"),
        ("max_shards", "i8"),
        ("continues", "i8"),
        ("conversation", "i8"),
        ("prompt_tokens", "f8"),
        ("prefix_tokens", "f8"),
        ("output_tokens", "f8"),
        ("expected_tokens", "f8"),
        ("output_bytes", "f8"),
        ("duration_s", "f8"),
        ("status", "i8"),
        ("parents_left", "i8"),
        ("first_shard", "i8"),
        ("shards", "i8"),
        ("shards_left", "i8"),
        ("steps", "i8"),
        ("ready_s", "f8"),
        ("finish_s", "f8"),
        ("work_s", "f8"),
        ("rank_s", "f8"),
    ]
)
"""A stage. ``output_tokens`` is what the physics obeys, ``expected_tokens`` what a policy may know; ``steps`` counts
the unfinished stages before it; ``work_s`` and ``rank_s`` are its mean execution time and upward rank."""

WORKFLOW = np.dtype(
    [
        ("arrival_s", "f8"),
        ("weight", "f8"),
        ("first_stage", "i8"),
        ("stages", "i8"),
        ("left", "i8"),
        ("done_s", "f8"),
        ("served_s", "f8"),
        ("work_left_s", "f8"),
    ]
)

SHARD = np.dtype(
    [
        ("stage", "i8"),
        ("place", "i8"),
        ("prompts", "i8"),
        ("number", "i8"),
        ("admitted", "i8"),
        ("next", "i8"),
        ("pinned", "i8"),
        ("bound_s", "f8"),
        ("inputs_s", "f8"),
        ("cached", "f8"),
        ("tokens", "f8"),
        ("prefill_s", "f8"),
        ("decode_at_s", "f8"),
        ("virtual_end_s", "f8"),
    ]
)

PLACE = np.dtype(
    [
        ("node", "i8"),
        ("home", "i8"),
        ("size", "i8"),
        ("max_seqs", "i8"),
        ("gbps", "f8"),
        ("usable", "i8"),
        ("lane_shard", "i8"),
        ("lane_head", "i8"),
        ("lane_tail", "i8"),
        ("wait_head", "i8"),
        ("wait_tail", "i8"),
        ("seat_head", "i8"),
        ("seat_tail", "i8"),
        ("run_head", "i8"),
        ("decoding", "i8"),
        ("bound_shards", "i8"),
        ("bound_seqs", "i8"),
        ("unfilled", "i8"),
        ("stamp", "i8"),
        ("lane_until_s", "f8"),
        ("virtual_s", "f8"),
        ("virtual_at_s", "f8"),
    ]
)
"""A place: the shard in its prefill lane and, as linked lists of shards, those that wait for model or inputs
(``wait``), for the lane, for a seat among the decoding sequences, and those that decode (``run``). ``unfilled`` counts
bound shards whose prefill has not ended. ``virtual_s`` is the decode progress of a lone sequence since the start."""

DEVICE = np.dtype(
    [
        ("memory_bytes", "f8"),
        ("used_bytes", "f8"),
        ("kv_tokens", "f8"),
        ("kv_used", "f8"),
        ("loading", "i8"),
        ("oldest", "i8"),
        ("newest", "i8"),
    ]
)

MODEL = np.dtype(
    [("weights_bytes", "f8"), ("disk_bytes_per_s", "f8"), ("host_bytes_per_s", "f8"), ("group_size", "i8")]
)

RESIDENT = np.dtype([("status", "i8"), ("users", "i8"), ("ready_s", "f8"), ("used_s", "f8")])

SEGMENT = np.dtype([("tokens", "f8"), ("model", "i8")])

CELL = np.dtype([("pins", "i4"), ("older", "i4"), ("newer", "i4")])
"""A segment on a place: pins -1 where it is not cached; links of its device's list from least to most recently used."""

LOAD = np.dtype([("place", "i8"), ("model", "i8"), ("why", "i8"), ("reserved", "i8")])

EVENT = np.dtype([("t", "f8"), ("order", "i8"), ("kind", "i8"), ("index", "i8"), ("stamp", "i8")])

LOG = np.dtype(
    [("t", "f8"), ("kind", "i8"), ("a", "i8"), ("b", "i8"), ("c", "i8"), ("x", "f8"), ("y", "f8"), ("z", "f8")]
)

TALLY = np.dtype(
    [
        ("now", "f8"),
        ("latency_s", "f8"),
        ("decode_slowdown", "f8"),
        ("order", "i8"),
        ("events", "i8"),
        ("ready", "i8"),
        ("shards", "i8"),
        ("loads", "i8"),
        ("arrived", "i8"),
        ("stages_left", "i8"),
        ("logged", "i8"),
        ("cursor", "i8"),
        ("prefetched", "i8"),
    ]
)
"""One row: the clock, constants of the fleet, and how far each list is filled."""


STEPS = 6
"""Stages this far ahead, and further, are counted together."""


@dataclass(frozen=True)
class World(Bundle):
    """Everything the kernel reads and writes."""

    tally: Records
    stages: Records
    workflows: Records
    arrivals: NDArray[np.int64]
    """Workflows in the order in which they arrive."""
    child_at: NDArray[np.int64]
    child: NDArray[np.int64]
    parent_at: NDArray[np.int64]
    parent: NDArray[np.int64]
    chain_at: NDArray[np.int64]
    chain: NDArray[np.int64]
    """Segments of each stage's prompt, outermost first."""
    segments: Records
    models: Records
    places: Records
    devices: Records
    member_at: NDArray[np.int64]
    member: NDArray[np.int64]
    overlap_at: NDArray[np.int64]
    overlap: NDArray[np.int64]
    """Other places that share a device."""
    prefill_tps: NDArray[np.float64]
    """[model, place]; 0 where the place can't hold the model."""
    decode_tps: NDArray[np.float64]
    load_factor: NDArray[np.float64]
    """[model, place] measured over described speed of loading."""
    avoid_at: NDArray[np.int64]
    avoid: NDArray[np.int64]
    """Places on which each stage shall not be tried again; without entries where no stage has any."""
    resident: Records
    """[place, model]"""
    host_bytes: NDArray[np.float64]
    """[node]"""
    host_used_s: NDArray[np.float64]
    """[node, model] when its weights in host memory were last used; -1 where they don't lie there."""
    cells: Records
    """[place * segments + segment]"""
    coming_s: NDArray[np.float64]
    """[model, steps]: mean execution time of known stages that are not bound, by the unfinished stages before them."""
    ready: NDArray[np.int64]
    """The frontier, in the order in which its stages became ready."""
    shards: Records
    loads: Records
    heap: Records
    log: Records


CHANGING = (
    "tally",
    "stages",
    "workflows",
    "segments",
    "places",
    "devices",
    "resident",
    "host_used_s",
    "cells",
    "coming_s",
    "ready",
    "shards",
    "loads",
    "heap",
)
"""Arrays that the events change; a copy of a world shares all others."""


def copy(world: World) -> World:
    """A world that goes its own way; its log is left behind."""
    changed = {name: getattr(world, name).copy() for name in CHANGING}
    return replace(world, **changed, log=records(0, LOG))


def records(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Records:
    return np.zeros(shape, dtype).view(np.recarray)
