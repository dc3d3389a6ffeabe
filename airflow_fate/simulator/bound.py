"""How good could the best of all plans be? Bounds that no policy can beat.

No stage ends before the longest chain of stages up to it, each on the place where it is fastest, with all cached that
can be and, before the first of a model, its load from disk. And of all stages that can't begin before some time and
are followed by chains of some length, the fleet must do between the two what no cache can spare.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from airflow_fate.cluster import Fleet
from airflow_fate.physics import terms
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.world.arrays import World
from airflow_fate.physics.world.encode import encode
from airflow_fate.simulator.capacity import Capacity, Floats, Work
from airflow_fate.simulator.summary import nearest_rank
from airflow_fate.simulator.workload import Workload

_WINDOWS = 6
"""How many times, and lengths of what follows, are tried with one another: more of them are hardly tighter."""


@dataclass(frozen=True)
class Bounds:
    """Seconds. ``mean_s`` and ``p95_s`` are of the workflows' completion times."""

    makespan_s: float
    mean_s: float
    p95_s: float


def lower_bounds(
    workload: Workload,
    fleet: Fleet,
    costs: CostModel | None = None,
    host_models: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Bounds:
    """What no policy can be below.

    :param costs: the fleet's speeds as measured; as described, where there are none.
    :param host_models: node id -> models whose weights lie in its host memory when it begins.
    """
    at_best = _reading_at_best(fleet, host_models)
    world = encode(workload.workflows, at_best, costs, workload.output_tokens, log=False).world
    begin_s, least_s = _begins(world)
    end_s = begin_s + least_s
    done_s = np.zeros(len(world.workflows))
    np.maximum.at(done_s, world.stages["workflow"], end_s)
    latency_s = np.sort(done_s - world.workflows["arrival_s"])
    work = _work(world, begin_s, _tails(world, least_s))
    makespan_s = _busy_until_s(Capacity(world), work, float(end_s.max())) if work else float(end_s.max())
    return Bounds(makespan_s, float(latency_s.mean()), nearest_rank(latency_s, 95))


def _reading_at_best(fleet: Fleet, host_models: Mapping[str, Collection[str]]) -> Fleet:
    """The fleet, where a model that lies in any host memory is read as fast as from there."""
    in_memory = {name for names in host_models.values() for name in names}
    if not in_memory:
        return fleet
    models = {
        name: replace(spec, disk_bytes_per_s=max(spec.disk_bytes_per_s, spec.host_bytes_per_s))
        if name in in_memory
        else spec
        for name, spec in fleet.models.items()
    }
    return replace(fleet, models=models)


def least_busy_s(workload: Workload, fleet: Fleet) -> float:
    """Seconds in which the fleet could do all of it at the very best, were it all there at once and in any order."""
    world = encode(workload.workflows, fleet, output_tokens=workload.output_tokens, log=False).world
    nothing_s = np.zeros(len(world.stages))
    return Capacity(world).least_s(_work(world, nothing_s, nothing_s))


def _busy_until_s(capacity: Capacity, work: list[Work], known_s: float) -> float:
    """When all can have ended at the soonest, by the window that tells most; at least what is known."""
    best_s = known_s
    windows = [_window(capacity, chosen) for chosen in _choices(work)]
    for window in sorted(windows, key=lambda window: -window.at_most_s):
        if window.at_most_s <= best_s:
            break
        best_s = max(best_s, window.around_s + capacity.least_s(window.work))
    return best_s


@dataclass(frozen=True)
class _Window:
    """Work and the time around it.

    :param around_s: when the first of it can begin, and what must follow the last of it.
    :param at_most_s: no later end follows from it.
    """

    work: list[Work]
    around_s: float
    at_most_s: float


def _window(capacity: Capacity, work: list[Work]) -> _Window:
    around_s = min(piece.head_s for piece in work) + min(piece.tail_s for piece in work)
    return _Window(work, around_s, around_s + capacity.no_less_than_least_s(work))


def _choices(work: list[Work]) -> Iterator[list[Work]]:
    """What begins no sooner than some time and is followed by no less than some time."""
    for head_s in _quantiles([piece.head_s for piece in work]):
        for tail_s in _quantiles([piece.tail_s for piece in work]):
            chosen = [piece for piece in work if piece.head_s >= head_s and piece.tail_s >= tail_s]
            if chosen:
                yield chosen


def _quantiles(values: list[float]) -> list[float]:
    at = np.linspace(0.0, 1.0, _WINDOWS, endpoint=False)
    return [float(value) for value in np.unique(np.quantile(values, at, method="lower"))]


def _begins(world: World) -> tuple[Floats, Floats]:
    """Of each stage: when its prefill (or the tool) can begin at the soonest, and how long it takes from there."""
    stages, workflows = world.stages, world.workflows
    first_s = float(workflows["arrival_s"].min())
    begin_s, least_s = np.zeros(len(stages)), np.zeros(len(stages))
    for index in range(len(stages)):
        stage = stages[index]
        begin_s[index] = workflows[stage.workflow].arrival_s
        for parent in world.parent_indices[world.parent_indptr[index] : world.parent_indptr[index + 1]]:
            begin_s[index] = max(begin_s[index], begin_s[parent] + least_s[parent])
        if stage.tool:
            least_s[index] = stage.duration_s
            continue
        model = world.models[stage.model]
        # Nobody loads before anything has arrived, and the first load of a node is from disk.
        read_s = model.weights_bytes / model.group_size / model.disk_bytes_per_s
        begin_s[index] = max(begin_s[index], first_s + read_s)
        least_s[index] = _alone_s(world, index)
    return begin_s, least_s


def _alone_s(world: World, index: int) -> float:
    """Seconds of the stage's largest shard, where it is fastest."""
    stage = world.stages[index]
    able = np.flatnonzero(world.prefill_tps[stage.model] > 0)
    shards = min(int(stage.prompts), int(stage.max_shards), len(able))
    prompts = -(-int(stage.prompts) // shards)
    prefill_s = _prefill_tokens(world, index, prompts, at_least=1.0) / world.prefill_tps[stage.model, able]
    context = terms.context_tokens(prompts, stage.prompt_tokens, stage.output_tokens)
    slowdowns = world.decode_slowdown[stage.model, able], world.context_slowdown[stage.model, able]
    steps = np.array(
        [terms.step(slowdown, prompts, per_token, context) for slowdown, per_token in zip(*slowdowns, strict=True)]
    )
    return float((prefill_s + stage.output_tokens * steps / world.decode_tps[stage.model, able]).min())


def _prefill_tokens(world: World, index: int, prompts: int, at_least: float) -> float:
    """Tokens that so many of the stage's prompts compute on a place where all that can be is cached."""
    stage = world.stages[index]
    chain = sum(_segment_tokens(world, index))
    shared = float(stage.prefix_tokens)
    if stage.continues >= 0:
        shared += _conversation_tokens(world, stage.continues)
    first = max(at_least, float(stage.prompt_tokens) - chain)
    return first + (prompts - 1) * max(at_least, float(stage.prompt_tokens) - max(chain, shared))


def _segment_tokens(world: World, index: int) -> list[float]:
    """Tokens of each segment with which the stage's prompt begins."""
    stage = world.stages[index]
    segments = world.chain_indices[world.chain_indptr[index] : world.chain_indptr[index + 1]]
    tokens = [float(world.segments[segment].tokens) for segment in segments]
    if tokens and stage.continues >= 0:
        tokens[0] = _conversation_tokens(world, stage.continues)
    return tokens


def _conversation_tokens(world: World, index: int) -> float:
    return float(world.stages[index].prompt_tokens + world.stages[index].output_tokens)


def _tails(world: World, least_s: Floats) -> Floats:
    """Of each stage: the longest chain of stages after it."""
    tail_s = np.zeros(len(least_s))
    for index in range(len(least_s) - 1, -1, -1):
        for child in world.child_indices[world.child_indptr[index] : world.child_indptr[index + 1]]:
            tail_s[index] = max(tail_s[index], least_s[child] + tail_s[child])
    return tail_s


def _work(world: World, begin_s: Floats, tail_s: Floats) -> list[Work]:
    """What must be done: of each stage what no cache spares, and once what is shared."""
    pieces: list[Work] = []
    shared: dict[int, Work] = {}
    for index in range(len(world.stages)):
        stage = world.stages[index]
        if stage.tool:
            continue
        prompts, head, tail = int(stage.prompts), float(begin_s[index]), float(tail_s[index])
        fresh = _prefill_tokens(world, index, prompts, at_least=0.0)
        output = prompts * float(stage.output_tokens)
        pieces.append(Work(int(stage.model), fresh, output, prompts, head, tail))
        if stage.continues >= 0:
            # What follows a conversation is no longer than its prompt only together with it.
            continue
        for segment in world.chain_indices[world.chain_indptr[index] : world.chain_indptr[index + 1]].tolist():
            known = shared.get(segment)
            tokens = float(world.segments[segment].tokens)
            shared[segment] = (
                Work(int(stage.model), tokens, 0.0, 1, head, tail)
                if known is None
                else replace(known, head_s=min(known.head_s, head), tail_s=min(known.tail_s, tail))
            )
    return [*pieces, *shared.values()]
