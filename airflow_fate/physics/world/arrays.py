"""What does the event loop work on? The fleet, the work and their state as tables and arrays.

One row is one thing; the columns carry the names and units of the values they were made from. Indices are positions in
the tables; -1 is none. A place is a device or, behind all devices, a group. Lists of numbers of each thing lie one
behind the other, as in a compressed sparse row matrix: ``x_indices[x_indptr[i] : x_indptr[i + 1]]`` are those of ``i``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.jit.bundle import Bundle
from airflow_fate.physics.world.tables import Int32, Table, zeros

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WAITING, READY, BOUND, DONE = 0, 1, 2, 3
"""Status of a stage."""

ABSENT, ASKED, LOADING, LOADED = 0, 1, 2, 3
"""Status of a model on a place."""

DEMAND, PREFETCH, REPLICATE = 0, 1, 2
"""Why a model is loaded."""

STEPS = 6
"""Stages this far ahead, and further, are counted together."""


class StageRow:
    """A stage.

    ``output_tokens`` is what the physics obeys, ``expected_tokens`` what a policy may know. ``steps`` counts the
    unfinished stages before it. ``work_s`` is its mean execution time, ``rank_s`` its upward rank.
    """

    workflow: int
    tool: int
    model: int
    prompts: int
    max_shards: int
    continues: int
    conversation: int
    prompt_tokens: float
    prefix_tokens: float
    output_tokens: float
    expected_tokens: float
    output_bytes: float
    duration_s: float
    status: int
    parents_left: int
    first_shard: int
    shards: int
    shards_left: int
    steps: int
    ready_s: float
    finish_s: float
    work_s: float
    rank_s: float


class WorkflowRow:
    """A workflow. ``served_s`` is the service that it has attained."""

    arrival_s: float
    weight: float
    first_stage: int
    stages: int
    left: int
    done_s: float
    served_s: float
    work_left_s: float


class ShardRow:
    """The prompts of a stage that went to one place.

    ``next`` links the list in which it waits or decodes. ``retained`` counts the leading segments of its prompt that
    it holds references to. ``attained_end_s`` is the place's attained service at which its decoding ends.
    """

    stage: int
    place: int
    prompts: int
    number: int
    admitted: int
    next: int
    retained: int
    bound_s: float
    inputs_s: float
    cached: float
    tokens: float
    prefill_s: float
    decode_at_s: float
    attained_end_s: float


class PlaceRow:
    """A place: the shard in its prefill slot, and linked lists of its other shards.

    Those of ``wait`` lack their model or their inputs. Those of ``prefill`` wait for the prefill slot, those of
    ``slot`` for a sequence slot. Those of ``decode`` decode. ``prefills_left`` counts bound shards whose prefill has
    not ended. ``attained_s`` is the service that a sequence which decodes since the start would have attained, in
    seconds of a lone sequence. ``generation`` tells the newest expected end of a decoding from those before it, as
    ``prefill_generation`` does for the prompt in the slot.

    ``step`` is how many times longer than a lone sequence's the steps of those who decode take, ``chunk`` what the
    prompt in the slot adds to each of them, and ``stretch`` how many times longer than alone that prompt takes.
    ``prefill_left_s`` is what is left of it, in seconds alone; all that only where prompts share the steps
    (``batch_tokens``).
    """

    node: int
    home: int
    size: int
    max_seqs: int
    batch_tokens: int
    gbps: float
    usable: int
    prefill_shard: int
    prefill_head: int
    prefill_tail: int
    wait_head: int
    wait_tail: int
    slot_head: int
    slot_tail: int
    decode_head: int
    decoding: int
    bound_shards: int
    bound_seqs: int
    prefills_left: int
    generation: int
    prefill_generation: int
    prefill_until_s: float
    prefill_left_s: float
    attained_s: float
    attained_at_s: float
    step: float
    chunk: float
    stretch: float
    context_tokens: float


class DeviceRow:
    """A device; ``oldest`` and ``newest`` are the ends of its list of cached segments."""

    memory_bytes: float
    used_bytes: float
    kv_tokens: float
    kv_used: float
    loading: int
    oldest: int
    newest: int


class ModelRow:
    weights_bytes: float
    disk_bytes_per_s: float
    host_bytes_per_s: float
    group_size: int


class ResidentRow:
    """A model on a place; ``users`` counts the shards that were admitted for it there."""

    status: int
    users: int
    ready_s: float
    used_s: float


class SegmentRow:
    tokens: float
    model: int


class CellRow:
    """A segment on a place.

    ``refcount`` is -1 where it is not cached. The others link its device's list from least to most recently used.
    """

    refcount: Int32
    older: Int32
    newer: Int32


class LoadRow:
    """A load that was asked for and has not begun."""

    place: int
    model: int
    why: int
    reserved: int


class EventRow:
    """An event that is awaited; ``order`` decides between equal times."""

    t: float
    order: int
    kind: int
    index: int
    generation: int


class LogRow:
    """Something that has happened; which columns mean something depends on the kind."""

    t: float
    kind: int
    workflow: int
    stage: int
    shard: int
    place: int
    model: int
    parent: int
    prompts: int
    why: int
    from_host: int
    seconds: float
    tokens: float
    cached: float
    moved_bytes: float


class TallyRow:
    """The clock, constants of the fleet, and how far each list is filled: one row."""

    now: float
    latency_s: float
    order: int
    events: int
    ready: int
    shards: int
    loads: int
    arrived: int
    stages_left: int
    logged: int
    cursor: int
    prefetched: int


@dataclass(frozen=True)
class World(Bundle):
    """Everything that the event loop reads and writes."""

    tally: Table[TallyRow]
    stages: Table[StageRow]
    workflows: Table[WorkflowRow]
    arrivals: Ints
    """Workflows in the order in which they arrive."""
    child_indptr: Ints
    child_indices: Ints
    parent_indptr: Ints
    parent_indices: Ints
    chain_indptr: Ints
    chain_indices: Ints
    """Segments of each stage's prompt, outermost first."""
    segments: Table[SegmentRow]
    models: Table[ModelRow]
    places: Table[PlaceRow]
    devices: Table[DeviceRow]
    member_indptr: Ints
    member_indices: Ints
    """Devices of each place."""
    overlap_indptr: Ints
    overlap_indices: Ints
    """Other places that share a device with each."""
    prefill_tps: Floats
    """[model, place]; 0 where the place can't hold the model."""
    decode_tps: Floats
    decode_slowdown: Floats
    """[model, place] for each further sequence."""
    context_slowdown: Floats
    """[model, place] for each token of context in the batch."""
    load_factor: Floats
    """[model, place] measured over described speed of loading."""
    avoid_indptr: Ints
    avoid_indices: Ints
    """Places on which each stage shall not be tried again; without entries where no stage has any."""
    resident: Table[ResidentRow]
    """[place, model]"""
    host_bytes: Floats
    """[node]"""
    host_used_s: Floats
    """[node, model] when its weights in host memory were last used; -1 where they don't lie there."""
    cells: Table[CellRow]
    """[place * segments + segment]"""
    backlog_s: Floats
    """[model, steps]: mean execution time of known stages that are not bound, by the unfinished stages before them."""
    ready: Ints
    """The frontier, in the order in which its stages became ready."""
    shards: Table[ShardRow]
    loads: Table[LoadRow]
    heap: Table[EventRow]
    log: Table[LogRow]


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
    "backlog_s",
    "ready",
    "shards",
    "loads",
    "heap",
)
"""Arrays that the events change; a copy of a world shares all others."""


def copy(world: World) -> World:
    """A world that goes its own way; its log is left behind."""
    changed = {name: getattr(world, name).copy() for name in CHANGING}
    return replace(world, **changed, log=zeros(LogRow, 0))
