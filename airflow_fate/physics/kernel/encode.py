"""How do values become a world? Fleet and workflows as the kernel's arrays, and the names behind the indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airflow_fate.cluster import Fleet
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.kernel import world as arrays
from airflow_fate.physics.kernel.world import World, records
from airflow_fate.workflow import Segment, StageRef, Workflow, conversation_key


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
) -> Encoded:
    """A world before anything arrived: an empty fleet, every stage waiting.

    :param output_tokens: what the stages will really put out; their expectation where absent.
    :param log: keep room for the event log.
    """
    costs = costs or CostModel()
    models = tuple(sorted(fleet.models))
    model_index = {name: index for index, name in enumerate(models)}
    stages, stage_rows, chains, segment_index, segment_rows = _stages(
        workflows, model_index, costs, output_tokens or {}
    )
    refs = [StageRef(w.id, s) for w in workflows for s in w.order]
    index_of = {ref: index for index, ref in enumerate(refs)}
    children = [[index_of[StageRef(w.id, c)] for c in w.children(s)] for w in workflows for s in w.order]
    parents = [[index_of[StageRef(w.id, p)] for p in w.parents(s)] for w in workflows for s in w.order]
    stages["parents_left"] = [len(p) for p in parents]
    for index, (workflow, stage_id) in enumerate(stage_rows):
        continues = workflow.stages[stage_id].continues
        stages[index].continues = -1 if continues is None else index_of[StageRef(workflow.id, continues)]
    places, devices, member_csr, overlap_csr, prefill, decode = _fleet(fleet, models, costs)
    _ranks(stages, children, prefill, decode)
    flows = _workflows(workflows, stages)
    most_shards = np.where(stages["tool"] != 0, 0, np.minimum(stages["prompts"], stages["max_shards"]))
    shards = int(most_shards.sum())
    moves = sum(int(most_shards[s] * sum(most_shards[p] for p in parents[s])) for s in range(len(refs)))
    tally = records(1, arrays.TALLY)
    tally[0].latency_s, tally[0].decode_slowdown = fleet.latency_s, fleet.decode_slowdown
    tally[0].stages_left = len(refs)
    child_at, child = _csr(children)
    parent_at, parent = _csr(parents)
    chain_at, chain = _csr(chains)
    segments = records(len(segment_rows), arrays.SEGMENT)
    for index, (tokens, model) in enumerate(segment_rows):
        segments[index].tokens, segments[index].model = tokens, model
    host_used = np.full((len(fleet.nodes), len(models)), -1.0)
    cells = records(len(places) * len(segments), arrays.CELL)
    cells["pins"] = -1
    world = World(
        tally=tally,
        stages=stages,
        workflows=flows,
        arrivals=np.argsort(flows["arrival_s"], kind="stable").astype(np.int32),
        child_at=child_at,
        child=child,
        parent_at=parent_at,
        parent=parent,
        chain_at=chain_at,
        chain=chain,
        segments=segments,
        models=_models(fleet, models),
        places=places,
        devices=devices,
        member_at=member_csr[0],
        member=member_csr[1],
        overlap_at=overlap_csr[0],
        overlap=overlap_csr[1],
        prefill_tps=prefill,
        decode_tps=decode,
        resident=records((len(places), len(models)), arrays.RESIDENT),
        host_bytes=np.array([node.host_bytes for node in fleet.nodes.values()], dtype=np.float64),
        host_used_s=host_used,
        cells=cells,
        coming_s=np.zeros((len(models), arrays.STEPS + 1)),
        ready=np.zeros(len(refs) + 1, dtype=np.int32),
        shards=records(shards + 1, arrays.SHARD),
        loads=records(len(places) * len(models) + 1, arrays.LOAD),
        heap=records(6 * shards + len(refs) + 4 * len(places) * len(models) + 16, arrays.EVENT),
        log=records(12 * shards + 4 * len(refs) + moves + 2 * len(flows) + 4096 if log else 0, arrays.LOG),
    )
    return Encoded(world, tuple(refs), tuple(w.id for w in workflows), tuple(fleet.places), models, segment_index)


def _stages(
    workflows: Sequence[Workflow],
    model_index: Mapping[str, int],
    costs: CostModel,
    output_tokens: Mapping[StageRef, int],
) -> tuple[arrays.Records, list[tuple[Workflow, str]], list[list[int]], dict[str, int], list[tuple[float, int]]]:
    rows = [(workflow, stage_id) for workflow in workflows for stage_id in workflow.order]
    stages = records(len(rows), arrays.STAGE)
    flow_index = {workflow.id: index for index, workflow in enumerate(workflows)}
    segments: dict[str, int] = {}
    segment_rows: list[tuple[float, int]] = []
    chains: list[list[int]] = []

    def segment(key: str, tokens: float, model: int) -> int:
        if key not in segments:
            segments[key] = len(segment_rows)
            segment_rows.append((tokens, model))
        return segments[key]

    for index, (workflow, stage_id) in enumerate(rows):
        stage, row, ref = workflow.stages[stage_id], stages[index], StageRef(workflow.id, stage_id)
        row.workflow, row.tool = flow_index[workflow.id], 0 if stage.is_llm else 1
        row.prompts, row.max_shards = stage.prompts, stage.max_shards
        row.output_bytes, row.duration_s = stage.output_bytes, stage.duration_s
        row.conversation = row.model = -1
        row.first_shard = row.steps = -1
        row.finish_s = row.ready_s = -1.0
        chain: list[int] = []
        if stage.is_llm:
            model = model_index[stage.model]
            expected = costs.output_tokens(stage.model, stage.expected_output_tokens)
            row.model, row.prompt_tokens, row.expected_tokens = model, stage.prompt_tokens, expected
            row.output_tokens = output_tokens.get(ref, expected)
            row.prefix_tokens = sum(part.tokens for part in stage.prefix)
            row.conversation = segment(conversation_key(stage.model, ref), stage.prompt_tokens + expected, model)
            chain = [segment(part.key, part.tokens, model) for part in _chain(workflow, stage_id)]
        chains.append(chain)
    return stages, rows, chains, segments, segment_rows


def _chain(workflow: Workflow, stage_id: str) -> tuple[Segment, ...]:
    """The chain of a prompt; empty where it continues a conversation that another model held, which none can reuse."""
    stage = workflow.stages[stage_id]
    if stage.continues is not None and workflow.stages[stage.continues].model != stage.model:
        return ()
    return workflow.chain(stage_id)


def _fleet(
    fleet: Fleet, models: Sequence[str], costs: CostModel
) -> tuple[
    arrays.Records,
    arrays.Records,
    tuple[NDArray[np.int32], NDArray[np.int32]],
    tuple[NDArray[np.int32], NDArray[np.int32]],
    NDArray[np.float64],
    NDArray[np.float64],
]:
    nodes = {name: index for index, name in enumerate(fleet.nodes)}
    device_index = {name: index for index, name in enumerate(fleet.devices)}
    devices = records(len(fleet.devices), arrays.DEVICE)
    for index, device in enumerate(fleet.devices.values()):
        row = devices[index]
        row.memory_bytes, row.kv_tokens, row.oldest, row.newest = device.memory_bytes, device.kv_tokens, -1, -1
    places = records(len(fleet.places), arrays.PLACE)
    members: list[list[int]] = []
    for index, place in enumerate(fleet.places):
        devices_here = fleet.members(place)
        leader, row = devices_here[0], places[index]
        members.append([device_index[d.id] for d in devices_here])
        row.node, row.home, row.size = nodes[leader.node], device_index[leader.id], len(devices_here)
        row.max_seqs, row.gbps, row.usable = leader.max_seqs, fleet.nodes[leader.node].gbps, 1
        for name in (
            "lane_shard",
            "lane_head",
            "lane_tail",
            "wait_head",
            "wait_tail",
            "seat_head",
            "seat_tail",
            "run_head",
        ):
            setattr(row, name, -1)
    overlaps = [
        [j for j, theirs in enumerate(members) if j != i and set(mine) & set(theirs)] if fleet.groups else []
        for i, mine in enumerate(members)
    ]
    prefill = np.zeros((len(models), len(places)))
    decode = np.zeros((len(models), len(places)))
    for m, name in enumerate(models):
        for p, place in enumerate(fleet.places):
            if fleet.can_hold(place, name):
                gpu = fleet.members(place)[0].gpu
                prefill[m, p] = costs.prefill_tps(fleet.models[name], gpu)
                decode[m, p] = costs.decode_tps(fleet.models[name], gpu)
    return places, devices, _csr(members), _csr(overlaps), prefill, decode


def _models(fleet: Fleet, names: Sequence[str]) -> arrays.Records:
    models = records(len(names), arrays.MODEL)
    for index, name in enumerate(names):
        spec, row = fleet.models[name], models[index]
        row.weights_bytes, row.group_size = spec.weights_bytes, spec.group_size
        row.disk_bytes_per_s, row.host_bytes_per_s = spec.disk_bytes_per_s, spec.host_bytes_per_s
    return models


def _workflows(workflows: Sequence[Workflow], stages: arrays.Records) -> arrays.Records:
    flows = records(len(workflows), arrays.WORKFLOW)
    first = 0
    for index, workflow in enumerate(workflows):
        row, count = flows[index], len(workflow.stages)
        row.arrival_s, row.weight = workflow.arrival_s, workflow.weight
        row.first_stage, row.stages, row.left = first, count, count
        row.done_s = -1.0
        row.work_left_s = float(stages["work_s"][first : first + count].sum())
        first += count
    return flows


def _ranks(
    stages: arrays.Records,
    children: Sequence[Sequence[int]],
    prefill: NDArray[np.float64],
    decode: NDArray[np.float64],
) -> None:
    """Mean execution times over the places that can serve a stage, and upward ranks (HEFT, Topcuoglu 2002)."""
    with np.errstate(divide="ignore"):
        per_token = [
            tuple(
                float(np.mean(1.0 / speeds[m][speeds[m] > 0])) if (speeds[m] > 0).any() else 0.0
                for m in range(len(speeds))
            )
            for speeds in (prefill, decode)
        ]
    for index in range(len(stages) - 1, -1, -1):
        row = stages[index]
        if row.tool:
            row.work_s = row.duration_s
        else:
            shared = min(row.prefix_tokens, max(0.0, row.prompt_tokens - 1.0))
            tokens = row.prompt_tokens + (row.prompts - 1) * max(1.0, row.prompt_tokens - shared)
            row.work_s = tokens * per_token[0][row.model] + row.expected_tokens * per_token[1][row.model]
        row.rank_s = row.work_s + max((float(stages[child].rank_s) for child in children[index]), default=0.0)


def _csr(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    at = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum([len(entries) for entries in lists], out=at[1:])
    return at, np.array([entry for entries in lists for entry in entries], dtype=np.int32)
