"""How do workflows become rows? A block of rows per workflow, made once, and blocks put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from airflow_fate.physics.world.arrays import DONE, Ints, SegmentRow, StageRow, WorkflowRow
from airflow_fate.physics.world.fleet import Csr, csr_of
from airflow_fate.physics.world.memo import remembered
from airflow_fate.physics.world.tables import Row, Table, dtype_of, zeros
from airflow_fate.workflow import Segment, StageRef, Workflow, conversation_key


class Packed(NamedTuple):
    """Lists of numbers, one behind the other: the size of each, and all numbers."""

    sizes: bytes
    numbers: bytes


@dataclass(frozen=True)
class Block:
    """The rows of one workflow; models, segments and stages count from 0 in it.

    Rows are bytes, which are put together many times faster than arrays.

    :param index: stage id -> number; parents come before children.
    :param prompts: of each stage.
    """

    index: Mapping[str, int]
    prompts: Sequence[int]
    workflow_row: bytes
    stage_rows: bytes
    models: tuple[str, ...]
    children: Packed
    parents: Packed
    chains: Packed
    keys: tuple[str, ...]
    segment_rows: bytes
    inputs: tuple[str, ...]
    """Finished stages whose output an unfinished one reads."""


def block(workflow: Workflow) -> Block:
    """Worked out once for each workflow."""
    return remembered(workflow, "kernel", _block)


def _block(workflow: Workflow) -> Block:
    order, done = workflow.order, workflow.finished
    index = {stage_id: at for at, stage_id in enumerate(order)}
    parents = [workflow.parents(stage_id) for stage_id in order]
    stages = [workflow.stages[stage_id] for stage_id in order]
    models = tuple(sorted({stage.model for stage in stages if stage.is_llm}))
    segments: dict[str, tuple[int, float, int]] = {}

    def segment(key: str, tokens: float, model: int) -> int:
        return segments.setdefault(key, (len(segments), tokens, model))[0]

    rows = _stage_rows(len(order))
    rows["tool"] = [0 if stage.is_llm else 1 for stage in stages]
    for name in ("prompts", "max_shards", "prompt_tokens", "output_bytes", "duration_s"):
        rows[name] = [getattr(stage, name) for stage in stages]
    rows["expected_tokens"] = rows["output_tokens"] = [stage.expected_output_tokens for stage in stages]
    rows["prefix_tokens"] = [sum(part.tokens for part in stage.prefix) for stage in stages]
    rows["continues"] = [-1 if stage.continues is None else index[stage.continues] for stage in stages]
    rows["parents_left"] = [sum(parent not in done for parent in each) for each in parents]
    rows["status"] = [DONE if stage_id in done else 0 for stage_id in order]
    rows["finish_s"] = [0.0 if stage_id in done else -1.0 for stage_id in order]
    chains: list[list[int]] = []
    for at, stage in enumerate(stages):
        chain: list[int] = []
        if stage.is_llm:
            model = models.index(stage.model)
            rows["model"][at] = model
            key = conversation_key(stage.model, StageRef(workflow.id, stage.id))
            rows["conversation"][at] = segment(key, stage.prompt_tokens + stage.expected_output_tokens, model)
            chain = [segment(part.key, part.tokens, model) for part in _chain(workflow, stage.id)]
        chains.append(chain)
    return Block(
        index=index,
        prompts=tuple(stage.prompts for stage in stages),
        workflow_row=_workflow_row(workflow.arrival_s, workflow.weight, len(order), len(order) - len(done)),
        stage_rows=rows.tobytes(),
        models=models,
        children=_packed([[index[child] for child in workflow.children(stage_id)] for stage_id in order]),
        parents=_packed([[index[parent] for parent in each] for each in parents]),
        chains=_packed(chains),
        keys=tuple(segments),
        segment_rows=np.array([row[1:] for row in segments.values()], dtype_of(SegmentRow)).tobytes(),
        inputs=tuple(sorted({p for s, each in zip(order, parents, strict=True) if s not in done for p in each} & done)),
    )


def strangers(models: Sequence[str], prompts: Sequence[int], weight: float) -> Block:
    """A workflow of stages of which nothing is known but their model and how many prompts they have.

    :param models: of each stage.
    """
    count = len(models)
    used = tuple(sorted(set(models)))
    number = {name: index for index, name in enumerate(used)}
    of_stage = np.array([number[name] for name in models], dtype=np.int64)
    rows = _stage_rows(count)
    rows["prompts"], rows["max_shards"], rows["finish_s"] = prompts, 1, -1.0
    rows["model"], rows["conversation"] = of_stage, np.arange(count)
    nobody = Packed(bytes(8 * count), b"")
    segments = zeros(SegmentRow, count)
    segments["model"] = of_stage
    return Block(
        index={},
        prompts=prompts,
        workflow_row=_workflow_row(0.0, weight, count, count),
        stage_rows=rows.tobytes(),
        models=used,
        children=nobody,
        parents=nobody,
        chains=nobody,
        keys=tuple(f"\x00{stage}" for stage in range(count)),
        segment_rows=segments.tobytes(),
        inputs=(),
    )


def _stage_rows(count: int) -> Table[StageRow]:
    rows = zeros(StageRow, count)
    rows["continues"] = rows["first_shard"] = rows["steps"] = rows["model"] = rows["conversation"] = -1
    rows["ready_s"] = -1.0
    return rows


def _workflow_row(arrival_s: float, weight: float, stages: int, left: int) -> bytes:
    row = zeros(WorkflowRow, 1)
    row["arrival_s"], row["weight"], row["stages"], row["left"], row["done_s"] = arrival_s, weight, stages, left, -1.0
    return row.tobytes()


def _chain(workflow: Workflow, stage_id: str) -> tuple[Segment, ...]:
    """The chain of a prompt; empty where it continues a conversation that another model held, which none can reuse."""
    stage = workflow.stages[stage_id]
    if stage.continues is not None and workflow.stages[stage.continues].model != stage.model:
        return ()
    return workflow.chain(stage_id)


@dataclass(frozen=True)
class Rows:
    """All workflows' rows, with indices that count through.

    :param segments: chain key -> index.
    """

    workflows: Table[WorkflowRow]
    stages: Table[StageRow]
    children: Csr
    parents: Csr
    chains: Csr
    segments: dict[str, int]
    segment_rows: Table[SegmentRow]


def put_together(blocks: Sequence[Block], model_index: Mapping[str, int]) -> Rows:
    """Stages of models that the fleet doesn't know take no time: nothing can be said about them."""
    workflows = _joined([each.workflow_row for each in blocks], WorkflowRow)
    starts = workflows["first_stage"] = _starts(workflows["stages"].tolist())
    flow = np.repeat(np.arange(len(blocks), dtype=np.int64), workflows["stages"])
    first = starts[flow]
    stages = _joined([each.stage_rows for each in blocks], StageRow)
    stages["workflow"] = flow
    stages["continues"] += np.where(stages["continues"] >= 0, first, 0)
    models = np.array([model_index.get(name, -1) for each in blocks for name in each.models] or [-1], dtype=np.int64)
    model_first = _starts([len(each.models) for each in blocks])
    is_llm = stages["model"] >= 0
    stages["model"] = np.where(is_llm, models[np.maximum(0, stages["model"] + model_first[flow])], -1)
    unknown = is_llm & (stages["model"] < 0)
    stages["tool"][unknown] = 1
    segments: dict[str, int] = {}
    numbers = [segments.setdefault(key, len(segments)) for each in blocks for key in each.keys]
    number = np.array(numbers or [-1], dtype=np.int64)
    key_counts = [len(each.keys) for each in blocks]
    key_first = _starts(key_counts)
    stages["conversation"] = np.where(is_llm, number[np.maximum(0, stages["conversation"] + key_first[flow])], -1)
    segment_rows = zeros(SegmentRow, len(segments))
    if numbers:
        named = _joined([each.segment_rows for each in blocks], SegmentRow)
        named["model"] = models[named["model"] + np.repeat(model_first, key_counts)]
        # Backwards, so that who names a segment first says how long it is.
        segment_rows[number[::-1]] = named[::-1]
    return Rows(
        workflows=workflows,
        stages=stages,
        children=_chained([each.children for each in blocks], first),
        parents=_chained([each.parents for each in blocks], first),
        chains=_chained([each.chains for each in blocks], key_first[flow], number),
        segments=segments,
        segment_rows=segment_rows,
    )


def _joined(rows: Sequence[bytes], row: type[Row]) -> Table[Row]:
    return cast("Table[Row]", np.frombuffer(bytearray().join(rows), dtype_of(row)).view(np.recarray))


def _starts(counts: Sequence[int]) -> Ints:
    return (np.cumsum(counts, dtype=np.int64) - np.array(counts, dtype=np.int64)).astype(np.int64)


def _packed(each: Sequence[Sequence[int]]) -> Packed:
    return Packed(
        np.array([len(numbers) for numbers in each], dtype=np.int64).tobytes(),
        np.array([number for numbers in each for number in numbers], dtype=np.int64).tobytes(),
    )


def _chained(each: Sequence[Packed], first: Ints, number: Ints | None = None) -> Csr:
    """The lists of all stages, their entries renumbered.

    :param first: what each stage's entries count from.
    """
    sizes = np.frombuffer(b"".join(lists.sizes for lists in each), np.int64)
    indices = np.frombuffer(b"".join(lists.numbers for lists in each), np.int64) + np.repeat(first, sizes)
    return csr_of(sizes, indices if number is None else number[indices])
