"""How do workflows become rows? A block of rows per workflow, made once, and blocks put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel import world as arrays
from airflow_fate.physics.kernel.fleet import Lists, lists_of
from airflow_fate.physics.kernel.memo import remembered
from airflow_fate.physics.kernel.world import DONE, records
from airflow_fate.workflow import Segment, StageRef, Workflow, conversation_key


class Packed(NamedTuple):
    """Lists of numbers, one behind the other: the size of each, and all entries."""

    sizes: bytes
    entries: bytes


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
        segment_rows=np.array([row[1:] for row in segments.values()], arrays.SEGMENT).tobytes(),
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
    segments = records(count, arrays.SEGMENT)
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


def _stage_rows(count: int) -> arrays.Records:
    rows = records(count, arrays.STAGE)
    rows["continues"] = rows["first_shard"] = rows["steps"] = rows["model"] = rows["conversation"] = -1
    rows["ready_s"] = -1.0
    return rows


def _workflow_row(arrival_s: float, weight: float, stages: int, left: int) -> bytes:
    row = records(1, arrays.WORKFLOW)
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

    workflows: arrays.Records
    stages: arrays.Records
    children: Lists
    parents: Lists
    chains: Lists
    segments: dict[str, int]
    segment_rows: arrays.Records


def put_together(blocks: Sequence[Block], model_index: Mapping[str, int]) -> Rows:
    """Stages of models that the fleet doesn't know take no time: nothing can be said about them."""
    workflows = _joined([one.workflow_row for one in blocks], arrays.WORKFLOW)
    starts = workflows["first_stage"] = _starts(workflows["stages"])
    flow = np.repeat(np.arange(len(blocks), dtype=np.int64), workflows["stages"])
    first = starts[flow]
    stages = _joined([one.stage_rows for one in blocks], arrays.STAGE)
    stages["workflow"] = flow
    stages["continues"] += np.where(stages["continues"] >= 0, first, 0)
    models = np.array([model_index.get(name, -1) for one in blocks for name in one.models] or [-1], dtype=np.int64)
    model_first = _starts([len(one.models) for one in blocks])
    is_llm = stages["model"] >= 0
    stages["model"] = np.where(is_llm, models[np.maximum(0, stages["model"] + model_first[flow])], -1)
    unknown = is_llm & (stages["model"] < 0)
    stages["tool"][unknown] = 1
    segments: dict[str, int] = {}
    numbers = [segments.setdefault(key, len(segments)) for one in blocks for key in one.keys]
    number = np.array(numbers or [-1], dtype=np.int64)
    key_counts = [len(one.keys) for one in blocks]
    key_first = _starts(key_counts)
    stages["conversation"] = np.where(is_llm, number[np.maximum(0, stages["conversation"] + key_first[flow])], -1)
    segment_rows = records(len(segments), arrays.SEGMENT)
    if numbers:
        named = _joined([one.segment_rows for one in blocks], arrays.SEGMENT)
        named["model"] = models[named["model"] + np.repeat(model_first, key_counts)]
        # Backwards, so that who names a segment first says how long it is.
        segment_rows[number[::-1]] = named[::-1]
    return Rows(
        workflows=workflows,
        stages=stages,
        children=_chained([one.children for one in blocks], first),
        parents=_chained([one.parents for one in blocks], first),
        chains=_chained([one.chains for one in blocks], key_first[flow], number),
        segments=segments,
        segment_rows=segment_rows,
    )


def _joined(rows: Sequence[bytes], kind: np.dtype[np.void]) -> arrays.Records:
    return np.frombuffer(bytearray().join(rows), kind).view(np.recarray)


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return (np.cumsum(counts, dtype=np.int64) - np.array(counts, dtype=np.int64)).astype(np.int64)


def _packed(each: Sequence[Sequence[int]]) -> Packed:
    return Packed(
        np.array([len(one) for one in each], dtype=np.int64).tobytes(),
        np.array([entry for one in each for entry in one], dtype=np.int64).tobytes(),
    )


def _chained(each: Sequence[Packed], first: NDArray[np.int64], number: NDArray[np.int64] | None = None) -> Lists:
    """The lists of all stages, their entries renumbered.

    :param first: what each stage's entries count from.
    """
    sizes = np.frombuffer(b"".join(one.sizes for one in each), np.int64)
    entries = np.frombuffer(b"".join(one.entries for one in each), np.int64) + np.repeat(first, sizes)
    return lists_of(sizes, entries if number is None else number[entries])
