"""How do values become a world? Fleet and workflows as the kernel's arrays, and the names behind the indices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from airflow_fate.cluster import Fleet
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.world.arrays import (
    DONE,
    STEPS,
    CellRow,
    EventRow,
    Ints,
    LoadRow,
    LogRow,
    ResidentRow,
    ShardRow,
    StageRow,
    TallyRow,
    World,
)
from airflow_fate.physics.world.fleet import FleetArrays, fleet_arrays
from airflow_fate.physics.world.ranks import rank
from airflow_fate.physics.world.tables import Table, zeros
from airflow_fate.physics.world.workflows import Rows, block, put_together
from airflow_fate.workflow import StageRef, Workflow


@dataclass(frozen=True)
class Encoded:
    """A world and what its indices stand for."""

    world: World
    stages: tuple[StageRef, ...]
    workflows: tuple[str, ...]
    places: tuple[str, ...]
    models: tuple[str, ...]
    segments: Mapping[str, int]

    def stage_index(self) -> dict[StageRef, int]:
        return {ref: index for index, ref in enumerate(self.stages)}


def encode(
    workflows: Sequence[Workflow],
    fleet: Fleet,
    costs: CostModel | None = None,
    output_tokens: Mapping[StageRef, int] | None = None,
    log: bool = True,
    host_models: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Encoded:
    """A world before anything arrived: an empty fleet, every stage waiting.

    :param output_tokens: what the stages will really put out; their expectation where absent.
    :param log: keep room for the event log.
    :param host_models: node id -> models whose weights lie in its host memory.
    """
    base = fleet_arrays(fleet)
    rows = put_together([block(workflow) for workflow in workflows], base.model_index)
    world = blank(rows, base, fleet, costs or CostModel())
    refs = tuple(StageRef(w.id, stage_id) for w in workflows for stage_id in w.order)
    if output_tokens:
        expected = world.stages["output_tokens"].tolist()
        world.stages["output_tokens"] = [output_tokens.get(ref, e) for ref, e in zip(refs, expected, strict=True)]
    lie_in_host_memory(world, base, host_models)
    rank(world)
    if log:
        world = replace(world, log=zeros(LogRow, _most_events(world)))
    return Encoded(world, refs, tuple(w.id for w in workflows), fleet.places, base.models, rows.segments)


def blank(rows: Rows, base: FleetArrays, fleet: Fleet, costs: CostModel) -> World:
    """The work on an empty fleet, nothing of it arrived and none of it ranked; without a log."""
    stages, segments = rows.stages, rows.segment_rows
    is_llm = stages["tool"] == 0
    factors = np.array([costs.output_factor.get(name, 1.0) for name in base.models] or [1.0])
    stages["expected_tokens"] *= np.where(is_llm, factors[stages["model"]], 1.0)
    stages["output_tokens"] = stages["expected_tokens"]
    segments["tokens"][stages["conversation"][is_llm]] = (stages["prompt_tokens"] + stages["expected_tokens"])[is_llm]
    places, models = len(base.places), len(base.models)
    shards = int(_most_shards(stages).sum())
    tally = zeros(TallyRow, 1)
    tally[0].latency_s = fleet.latency_s
    tally[0].stages_left = int((stages["status"] != DONE).sum())
    cells = zeros(CellRow, places * len(segments))
    cells["refcount"] = -1
    speeds = base.speeds(fleet, costs)
    # Where prompts share the steps of those who decode, each that comes or goes moves the ends of both.
    most_ends = 12 if base.places["batch_tokens"].any() else 6
    return World(
        tally=tally,
        stages=stages,
        workflows=rows.workflows,
        arrivals=np.argsort(rows.workflows["arrival_s"], kind="stable").astype(np.int64),
        child_indptr=rows.children.indptr,
        child_indices=rows.children.indices,
        parent_indptr=rows.parents.indptr,
        parent_indices=rows.parents.indices,
        chain_indptr=rows.chains.indptr,
        chain_indices=rows.chains.indices,
        segments=segments,
        models=base.specs,
        places=base.places.copy(),
        devices=base.devices.copy(),
        member_indptr=base.members.indptr,
        member_indices=base.members.indices,
        overlap_indptr=base.overlaps.indptr,
        overlap_indices=base.overlaps.indices,
        prefill_tps=speeds.prefill_tps,
        decode_tps=speeds.decode_tps,
        decode_slowdown=speeds.decode_slowdown,
        context_slowdown=speeds.context_slowdown,
        load_factor=base.load_factors(costs),
        avoid_indptr=np.zeros(len(stages) + 1, dtype=np.int64),
        avoid_indices=np.zeros(0, dtype=np.int64),
        resident=zeros(ResidentRow, places, models),
        host_bytes=base.host_bytes,
        host_used_s=np.full((len(base.nodes), models), -1.0),
        cells=cells,
        backlog_s=np.zeros((models, STEPS + 1)),
        ready=np.zeros(len(stages) + 1, dtype=np.int64),
        shards=zeros(ShardRow, shards + 1),
        loads=zeros(LoadRow, places * models + 1),
        heap=zeros(EventRow, most_ends * shards + len(stages) + 4 * places * models + 16),
        log=zeros(LogRow, 0),
    )


def lie_in_host_memory(world: World, base: FleetArrays, host_models: Mapping[str, Collection[str]]) -> None:
    """Have the weights lie there, on nodes and of models that are known.

    :param host_models: node id -> models.
    """
    for node, names in host_models.items():
        for name in names:
            if node in base.nodes and name in base.model_index:
                world.host_used_s[base.nodes[node], base.model_index[name]] = 0.0


def _most_shards(stages: Table[StageRow]) -> Ints:
    return np.where(stages["tool"] != 0, 0, np.minimum(stages["prompts"], stages["max_shards"]))


def _most_events(world: World) -> int:
    most_shards = _most_shards(world.stages)
    # Every shard may fetch something from every shard of its stage's parents.
    fetched = np.concatenate([[0], np.cumsum(most_shards[world.parent_indices])])
    moves = int((most_shards * (fetched[world.parent_indptr[1:]] - fetched[world.parent_indptr[:-1]])).sum())
    return 12 * int(most_shards.sum()) + 4 * len(world.stages) + moves + 2 * len(world.workflows) + 4096
