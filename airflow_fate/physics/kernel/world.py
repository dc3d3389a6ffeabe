"""What does the kernel work on? The fleet, the work and their state as record arrays.

One row is one thing; the columns carry the names and units of the values they were made from. Indices are positions in
the arrays; -1 is none. A place is a device or, behind all devices, a group.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        ("workflow", "i4"),
        ("tool", "i4"),
        ("model", "i4"),
        ("prompts", "i4"),
        ("max_shards", "i4"),
        ("continues", "i4"),
        ("conversation", "i4"),
        ("prompt_tokens", "f8"),
        ("prefix_tokens", "f8"),
        ("output_tokens", "f8"),
        ("expected_tokens", "f8"),
        ("output_bytes", "f8"),
        ("duration_s", "f8"),
        ("status", "i4"),
        ("parents_left", "i4"),
        ("first_shard", "i4"),
        ("shards", "i4"),
        ("shards_left", "i4"),
        ("steps", "i4"),
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
        ("first_stage", "i4"),
        ("stages", "i4"),
        ("left", "i4"),
        ("done_s", "f8"),
        ("served_s", "f8"),
        ("work_left_s", "f8"),
    ]
)

SHARD = np.dtype(
    [
        ("stage", "i4"),
        ("place", "i4"),
        ("prompts", "i4"),
        ("number", "i4"),
        ("admitted", "i4"),
        ("next", "i4"),
        ("pinned", "i4"),
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
        ("node", "i4"),
        ("home", "i4"),
        ("size", "i4"),
        ("max_seqs", "i4"),
        ("gbps", "f8"),
        ("usable", "i4"),
        ("lane_shard", "i4"),
        ("lane_head", "i4"),
        ("lane_tail", "i4"),
        ("wait_head", "i4"),
        ("wait_tail", "i4"),
        ("seat_head", "i4"),
        ("seat_tail", "i4"),
        ("run_head", "i4"),
        ("decoding", "i4"),
        ("bound_shards", "i4"),
        ("bound_seqs", "i4"),
        ("unfilled", "i4"),
        ("stamp", "i4"),
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
        ("loading", "i4"),
        ("oldest", "i4"),
        ("newest", "i4"),
    ]
)

MODEL = np.dtype(
    [("weights_bytes", "f8"), ("disk_bytes_per_s", "f8"), ("host_bytes_per_s", "f8"), ("group_size", "i4")]
)

RESIDENT = np.dtype([("status", "i4"), ("users", "i4"), ("ready_s", "f8"), ("used_s", "f8")])

SEGMENT = np.dtype([("tokens", "f8"), ("model", "i4")])

CELL = np.dtype([("pins", "i4"), ("older", "i4"), ("newer", "i4")])
"""A segment on a place: pins -1 where it is not cached; links of its device's list from least to most recently used."""

LOAD = np.dtype([("place", "i4"), ("model", "i4"), ("why", "i4"), ("reserved", "i4")])

EVENT = np.dtype([("t", "f8"), ("order", "i8"), ("kind", "i4"), ("index", "i4"), ("stamp", "i4")])

LOG = np.dtype(
    [("t", "f8"), ("kind", "i4"), ("a", "i4"), ("b", "i4"), ("c", "i4"), ("x", "f8"), ("y", "f8"), ("z", "f8")]
)

TALLY = np.dtype(
    [
        ("now", "f8"),
        ("latency_s", "f8"),
        ("decode_slowdown", "f8"),
        ("order", "i8"),
        ("events", "i4"),
        ("ready", "i4"),
        ("shards", "i4"),
        ("loads", "i4"),
        ("arrived", "i4"),
        ("stages_left", "i4"),
        ("logged", "i4"),
        ("cursor", "i4"),
        ("prefetched", "i4"),
    ]
)
"""One row: the clock, constants of the fleet, and how far each list is filled."""


STEPS = 6
"""Stages this far ahead, and further, are counted together."""


class World(NamedTuple):
    """Everything the kernel reads and writes."""

    tally: Records
    stages: Records
    workflows: Records
    arrivals: NDArray[np.int32]
    """Workflows in the order in which they arrive."""
    child_at: NDArray[np.int32]
    child: NDArray[np.int32]
    parent_at: NDArray[np.int32]
    parent: NDArray[np.int32]
    chain_at: NDArray[np.int32]
    chain: NDArray[np.int32]
    """Segments of each stage's prompt, outermost first."""
    segments: Records
    models: Records
    places: Records
    devices: Records
    member_at: NDArray[np.int32]
    member: NDArray[np.int32]
    overlap_at: NDArray[np.int32]
    overlap: NDArray[np.int32]
    """Other places that share a device."""
    prefill_tps: NDArray[np.float64]
    """[model, place]; 0 where the place can't hold the model."""
    decode_tps: NDArray[np.float64]
    load_factor: NDArray[np.float64]
    """[model, place] measured over described speed of loading."""
    avoid_at: NDArray[np.int32]
    avoid: NDArray[np.int32]
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
    ready: NDArray[np.int32]
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
    return world._replace(**changed, log=records(0, LOG))


def records(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Records:
    return np.zeros(shape, dtype).view(np.recarray)
