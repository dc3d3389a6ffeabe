"""How do workflows become rows? A block of rows per workflow, made once, and blocks put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel import world as arrays
from airflow_fate.physics.kernel.fleet import Lists, lists
from airflow_fate.physics.kernel.memo import remembered
from airflow_fate.physics.kernel.world import DONE, records
from airflow_fate.workflow import Segment, StageRef, Workflow, conversation_key


@dataclass(frozen=True)
class Block:
    """The rows of one workflow; models, segments and stages count from 0 in it.

    :param order: stage ids, parents before children.
    :param conversations: of all stages that have one, the segment's index.
    """

    order: tuple[str, ...]
    index: Mapping[str, int]
    stages: arrays.Records
    raw: bytes
    """The stages' rows, which are put together so many times faster."""
    models: tuple[str, ...]
    children: Lists
    parents: Lists
    chains: Lists
    keys: tuple[str, ...]
    tokens: NDArray[np.float64]
    segment_models: NDArray[np.int64]
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

    rows = records(len(order), arrays.STAGE)
    rows["tool"] = [0 if stage.is_llm else 1 for stage in stages]
    for name in ("prompts", "max_shards", "prompt_tokens", "output_bytes", "duration_s"):
        rows[name] = [getattr(stage, name) for stage in stages]
    rows["expected_tokens"] = rows["output_tokens"] = [stage.expected_output_tokens for stage in stages]
    rows["prefix_tokens"] = [sum(part.tokens for part in stage.prefix) for stage in stages]
    rows["continues"] = [-1 if stage.continues is None else index[stage.continues] for stage in stages]
    rows["parents_left"] = [sum(parent not in done for parent in each) for each in parents]
    rows["status"] = [DONE if stage_id in done else 0 for stage_id in order]
    rows["finish_s"] = [0.0 if stage_id in done else -1.0 for stage_id in order]
    rows["ready_s"] = -1.0
    rows["first_shard"] = rows["steps"] = rows["model"] = rows["conversation"] = -1
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
        order=order,
        index=index,
        stages=rows,
        raw=rows.tobytes(),
        models=models,
        children=lists([[index[child] for child in workflow.children(stage_id)] for stage_id in order]),
        parents=lists([[index[parent] for parent in each] for each in parents]),
        chains=lists(chains),
        keys=tuple(segments),
        tokens=np.array([tokens for _, tokens, _ in segments.values()], dtype=np.float64),
        segment_models=np.array([model for _, _, model in segments.values()], dtype=np.int64),
        inputs=tuple(sorted({p for s, each in zip(order, parents, strict=True) if s not in done for p in each} & done)),
    )


def _chain(workflow: Workflow, stage_id: str) -> tuple[Segment, ...]:
    """The chain of a prompt; empty where it continues a conversation that another model held, which none can reuse."""
    stage = workflow.stages[stage_id]
    if stage.continues is not None and workflow.stages[stage.continues].model != stage.model:
        return ()
    return workflow.chain(stage_id)


@dataclass(frozen=True)
class Rows:
    """All workflows' rows, with indices that count through.

    :param first: index of each workflow's first stage.
    :param flow: index of each stage's workflow.
    :param segments: chain key -> index.
    """

    blocks: tuple[Block, ...]
    first: NDArray[np.int64]
    flow: NDArray[np.int64]
    stages: arrays.Records
    children: Lists
    parents: Lists
    chains: Lists
    segments: dict[str, int]
    segment_rows: arrays.Records


def put_together(workflows: Sequence[Workflow], model_index: Mapping[str, int]) -> Rows:
    """Stages of models that the fleet doesn't know take no time: nothing can be said about them."""
    blocks = tuple(block(workflow) for workflow in workflows)
    counts = [len(one.order) for one in blocks]
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    flow = np.repeat(np.arange(len(blocks), dtype=np.int64), counts)
    stages = np.frombuffer(bytearray().join(one.raw for one in blocks), arrays.STAGE).view(np.recarray)
    stages["workflow"] = flow
    stages["continues"] += np.where(stages["continues"] >= 0, first[:-1][flow], 0)
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
        of_block = np.repeat(np.arange(len(blocks)), key_counts)
        local = np.concatenate([one.segment_models for one in blocks])
        # Backwards, so that who names a segment first says how long it is.
        backwards = number[::-1]
        segment_rows["tokens"][backwards] = np.concatenate([one.tokens for one in blocks])[::-1]
        segment_rows["model"][backwards] = models[local + model_first[of_block]][::-1]
    return Rows(
        blocks=blocks,
        first=first,
        flow=flow,
        stages=stages,
        children=_chained([one.children for one in blocks], first[:-1]),
        parents=_chained([one.parents for one in blocks], first[:-1]),
        chains=_chained([one.chains for one in blocks], key_first, number),
        segments=segments,
        segment_rows=segment_rows,
    )


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return (np.cumsum(counts, dtype=np.int64) - np.array(counts, dtype=np.int64)).astype(np.int64)


def _chained(each: Sequence[Lists], first: NDArray[np.int64], number: NDArray[np.int64] | None = None) -> Lists:
    """The lists of all blocks, their entries counted from the block's first, and renumbered."""
    if not each:
        return lists([])
    sizes = [len(one.entries) for one in each]
    entries = np.concatenate([one.entries for one in each]) + np.repeat(first, sizes)
    ends = np.concatenate([one.at[1:] for one in each]) + np.repeat(_starts(sizes), [len(one.at) - 1 for one in each])
    at = np.concatenate([[0], ends]).astype(np.int64)
    return Lists(at, (entries if number is None else number[entries]).astype(np.int64))
