"""How does a fleet in the middle of its work become a world? What runs goes on, what is ready waits.

The world's clock begins at 0 now, whatever the caller's clock says, so that no precision is lost to large times. What
has no place in the arrays is left out: outputs on nodes that are gone, cached prefixes that no known stage begins with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from airflow_fate.cluster import ClusterState, Running
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.restart.resume import resume
from airflow_fate.physics.world.arrays import ABSENT, BOUND, LOADED, LOADING, READY, EventRow, ShardRow, World
from airflow_fate.physics.world.encode import blank, lie_in_host_memory
from airflow_fate.physics.world.fleet import Csr, FleetArrays, csr, fleet_arrays
from airflow_fate.physics.world.ranks import rank
from airflow_fate.physics.world.tables import Table, zeros
from airflow_fate.physics.world.workflows import Block, Rows, block, put_together, strangers
from airflow_fate.workflow import StageRef, Workflow

_HARDLY_ANY = 1e-9
"""The weight of what runs here for workflows that are not known."""


class Waiting(Protocol):
    """A stage of the frontier: since when it is ready, and places where it shall not be tried again."""

    @property
    def ref(self) -> StageRef: ...
    @property
    def ready_s(self) -> float: ...
    @property
    def avoid(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Snapshot:
    """A world that begins now, and what its indices stand for.

    :param frontier: index of a ready stage -> the stage.
    """

    world: World
    frontier: Mapping[int, StageRef]
    places: tuple[str, ...]
    models: tuple[str, ...]


def snapshot(
    frontier: Iterable[Waiting], workflows: Collection[Workflow], state: ClusterState, costs: CostModel, now: float
) -> Snapshot:
    """The world as it is now. Equal arguments give equal worlds, whatever the order in which they are given."""
    fleet = state.fleet
    base = fleet_arrays(fleet)
    known = sorted(workflows, key=lambda workflow: workflow.id)
    workflow_of = {workflow.id: workflow for workflow in known}
    servable = (ready for ready in frontier if _model(workflow_of[ready.ref.workflow], ready.ref) in fleet.models)
    waiting = sorted(servable, key=lambda ready: (ready.ready_s, ready.ref))
    runs = _Runs(state, base, workflow_of, {ready.ref for ready in waiting})
    blocks = [block(workflow) for workflow in known]
    if runs.strange:
        models, sequences = zip(
            *((running.model, max(1, running.sequences)) for _, running in runs.strange), strict=True
        )
        blocks.append(strangers(models, sequences, _HARDLY_ANY))
    rows = put_together(blocks, base.model_index)
    world = blank(rows, base, fleet, costs)
    first = world.workflows["first_stage"].tolist()
    flows = {workflow.id: (start, rows) for workflow, start, rows in zip(known, first, blocks, strict=False)}

    def index(ref: StageRef) -> int:
        start, numbered = flows[ref.workflow]
        return start + numbered.index[ref.stage]

    world.workflows["arrival_s"] -= now
    world.tally[0].arrived = len(world.workflows)
    _lie(world, rows, state, base, now)
    ready = {index(ready.ref): ready.ref for ready in waiting}
    avoid = _wait(world, list(ready), waiting, base, now)
    # Reports lag behind: what runs there is there.
    status = world.resident["status"]
    running = [(index(ref), at, shard) for ref, at, shard in runs.known]
    running += [(first[-1] + number, at, shard) for number, (at, shard) in enumerate(runs.strange)]
    for _, at, shard in running:
        m = base.model_index[shard.model]
        if status[at, m] == ABSENT:
            status[at, m] = LOADED
    shards, order = _shards(world, running, _kept(flows, state, base), now)
    world = replace(
        world,
        avoid_indptr=avoid.indptr,
        avoid_indices=avoid.indices,
        shards=shards,
        heap=zeros(EventRow, len(world.heap) + 12 * len(order) + len(world.stages)),
    )
    rank(world)
    resume(world, order)
    return Snapshot(world, ready, fleet.places, base.models)


def _model(workflow: Workflow, ref: StageRef) -> str:
    return workflow.stages[ref.stage].model


class _Runs:
    """What runs where: of known workflows as (stage, place, running), and (place, running) of none that is known."""

    def __init__(
        self, state: ClusterState, base: FleetArrays, known: Mapping[str, Workflow], waiting: Collection[StageRef]
    ) -> None:
        self.known: list[tuple[StageRef, int, Running]] = []
        self.strange: list[tuple[int, Running]] = []
        for name, at in base.place_index.items():
            for running in state.place(name).running:
                model = base.model_index.get(running.model)
                if model is None or not base.can_hold[model, at]:
                    continue
                ref = StageRef(running.workflow, running.stage)
                workflow = known.get(ref.workflow)
                stage = workflow.stages.get(ref.stage) if workflow else None
                gone = workflow is None or ref.stage in workflow.finished or ref in waiting
                if not gone and stage is not None and stage.model == running.model:
                    self.known.append((ref, at, running))
                else:
                    self.strange.append((at, running))


def _wait(world: World, stages: Sequence[int], waiting: Sequence[Waiting], base: FleetArrays, now: float) -> Csr:
    """Put the stages into the frontier; returns where each stage of the world shall not be tried again."""
    world.tally[0].ready = len(stages)
    world.ready[: len(stages)] = stages
    world.stages["status"][stages] = READY
    world.stages["ready_s"][stages] = [ready.ready_s - now for ready in waiting]
    failed = [(stage, ready.avoid) for stage, ready in zip(stages, waiting, strict=True) if ready.avoid]
    if not failed:
        return Csr(world.avoid_indptr, world.avoid_indices)
    each: list[list[int]] = [[] for _ in range(len(world.stages))]
    for stage, avoid in failed:
        left = (world.prefill_tps[world.stages["model"][stage]] > 0) & (world.places["usable"] != 0)
        at = sorted(base.place_index[place] for place in avoid if place in base.place_index)
        left[at] = False
        # Where no other place can serve it, it may try again where it failed.
        each[stage] = at if left.any() else []
    return csr(each)


def _lie(world: World, rows: Rows, state: ClusterState, base: FleetArrays, now: float) -> None:
    """Which models and prefixes lie where, and which places can be used."""
    segments, models = rows.segments, base.model_index
    resident: list[tuple[int, int, float, float]] = []
    cached: list[tuple[int, float, int, int]] = []
    for name, at in base.place_index.items():
        place = state.place(name)
        if not place.usable:
            world.places["usable"][at] = 0
        for model, residency in place.resident.items():
            if model in models:
                resident.append((at, models[model], residency.ready_s - now, residency.last_used_s - now))
        home = int(base.members.indices[base.members.indptr[at]])
        for key, segment in place.cached.items():
            if (number := segments.get(key)) is not None:
                # Of what was used at the same time, the inner segments of a chain are the older ones.
                cached.append((home, segment.last_used_s, -number, at))
    if resident:
        where, which, ready_s, used_s = (np.array(column) for column in zip(*resident, strict=True))
        world.resident["status"][where, which] = np.where(ready_s > 0.0, LOADING, LOADED)
        world.resident["ready_s"][where, which] = np.maximum(0.0, ready_s)
        world.resident["used_s"][where, which] = used_s
    lie_in_host_memory(world, base, state.host_models)
    if cached:
        cached.sort()
        homes, _, inner, where = (np.array(column) for column in zip(*cached, strict=True))
        _cache(world, homes, where * len(world.segments) - inner, -inner)


def _cache(world: World, home: NDArray[np.int64], cell: NDArray[np.int64], segment: NDArray[np.int64]) -> None:
    """Link the cells of each device from least to most recently used; they are given in this order."""
    begins = np.concatenate([[True], home[1:] != home[:-1]])
    ends = np.concatenate([begins[1:], [True]])
    world.cells["refcount"][cell] = 0
    world.cells["older"][cell] = np.where(begins, -1, np.roll(cell, 1))
    world.cells["newer"][cell] = np.where(ends, -1, np.roll(cell, -1))
    world.devices["oldest"][home[begins]] = cell[begins]
    world.devices["newest"][home[ends]] = cell[ends]
    np.add.at(world.devices["kv_used"], home, world.segments["tokens"][segment])


def _kept(flows: Mapping[str, tuple[int, Block]], state: ClusterState, base: FleetArrays) -> list[tuple[int, int, int]]:
    """(stage, a place on the node, prompts) for the outputs that unfinished stages read.

    :param flows: workflow id -> index of its first stage, and its block.
    """
    on_node = {int(node): at for at, node in reversed(list(enumerate(base.places["node"].tolist())))}
    kept: list[tuple[int, int, int]] = []
    for workflow_id, (start, numbered) in flows.items():
        for stage_id in numbered.inputs:
            shares = state.outputs.get((workflow_id, stage_id), ())
            stage = start + numbered.index[stage_id]
            prompts = max(1, numbered.prompts[numbered.index[stage_id]])
            for node, share in shares:
                if (at := on_node.get(base.nodes.get(node, -1))) is not None:
                    kept.append((stage, at, max(1, round(share * prompts))))
    return kept


def _shards(
    world: World,
    runs: Sequence[tuple[int, int, Running]],
    kept: Sequence[tuple[int, int, int]],
    now: float,
) -> tuple[Table[ShardRow], NDArray[np.int64]]:
    """Room for all shards, with those that are there already, each stage's together; and those that are in flight.

    :param runs: (stage, place, running)
    """
    known = [(stage, place, prompts, 0.0, 0.0, False) for stage, place, prompts in kept]
    known += [
        (stage, place, max(1, r.sequences), r.prefill_end_s - now, r.finish_s - now, True) for stage, place, r in runs
    ]
    known.sort(key=lambda row: row[:2])
    shards = zeros(ShardRow, len(world.shards) + len(known))
    if not known:
        return shards, np.zeros(0, dtype=np.int64)
    stage, place, prompts, prefill_end_s, finish_s, in_flight = (
        np.array(column) for column in zip(*known, strict=True)
    )
    mine = shards[: len(known)]
    mine["stage"], mine["place"], mine["prompts"], mine["next"] = stage, place, prompts, -1
    mine["prefill_s"], mine["attained_end_s"] = prefill_end_s, finish_s
    stages, first, count = np.unique(stage, return_index=True, return_counts=True)
    mine["number"] = np.arange(len(known)) - np.repeat(first, count)
    world.stages["first_shard"][stages], world.stages["shards"][stages] = first, count
    world.stages["status"][stage[in_flight]] = BOUND
    np.add.at(world.stages["shards_left"], stage[in_flight], 1)
    world.tally[0].shards = len(known)
    order = np.lexsort((stage, prefill_end_s, place))
    return shards, order[in_flight[order]].astype(np.int64)
