"""What is true of a world at every moment? Its sums agree with its parts, and nothing is used beyond its room."""

from __future__ import annotations

from collections import Counter, defaultdict, namedtuple
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from airflow_fate.physics.world.arrays import ABSENT, BOUND, DONE, LOADED, LOADING, READY, STEPS, World

_RECORDS = ("tally", "stages", "workflows", "places", "devices", "models", "segments", "shards", "loads", "cells")
_NUMBERS = (
    "ready",
    "parent_indices",
    "parent_indptr",
    "chain_indices",
    "chain_indptr",
    "member_indices",
    "member_indptr",
    "overlap_indices",
    "overlap_indptr",
)


@dataclass(frozen=True)
class Queues:
    """The shards of a place, by where they are."""

    wait: list[int]
    prefill: list[int]
    slot: list[int]
    decode: list[int]

    @property
    def prefilled(self) -> list[int]:
        return self.slot + self.decode

    @property
    def all(self) -> list[int]:
        return self.wait + self.prefill + self.prefilled


def check_world(world: World) -> None:
    """Assert all of it."""
    world = _readable(world)
    places = [_queues(world, place) for place in range(len(world.places))]
    _check_places(world, places)
    _check_weights(world, places)
    _check_caches(world, places)
    _check_work(world, places)


def check_end(world: World) -> None:
    """Assert that all is done, and that nobody holds anything any more."""
    tally = world.tally[0]
    assert (tally.stages_left, tally.ready, tally.events, tally.loads) == (0, 0, 0, 0)
    assert (world.stages["status"] == DONE).all()
    assert (world.workflows["left"] == 0).all()
    assert not world.places["bound_shards"].any()
    assert not world.resident["users"].any()
    assert (world.cells["refcount"] <= 0).all()


def _readable(world: World) -> World:
    """A world of lists and tuples: reading single fields of record arrays takes long."""
    readable: dict[str, Any] = {name: _rows(getattr(world, name)) for name in _RECORDS}
    readable |= {name: getattr(world, name).tolist() for name in _NUMBERS}
    kept = {field.name: getattr(world, field.name) for field in fields(world)}
    readable["resident"] = _resident(world)
    return cast(World, SimpleNamespace(**kept | readable))


def _resident(world: World) -> dict[tuple[int, int], Any]:
    return {(place, model): row for place, rows in enumerate(world.resident) for model, row in enumerate(_rows(rows))}


def _rows(records: Any) -> list[Any]:
    row = _row_type(records.dtype)
    return [row(*values) for values in records.tolist()]


@cache
def _row_type(dtype: np.dtype[Any]) -> Any:
    return namedtuple("Row", dtype.names or ())


def _part(rows: Any, at: Any, index: int) -> Any:
    return rows[at[index] : at[index + 1]]


def _walk(world: World, head: int) -> list[int]:
    shards: list[int] = []
    while head >= 0:
        assert head not in shards, "a list of shards bites its tail"
        shards.append(head)
        head = world.shards[head].next
    return shards


def _queues(world: World, place: int) -> Queues:
    p = world.places[place]
    queues = Queues(
        _walk(world, p.wait_head),
        ([p.prefill_shard] if p.prefill_shard >= 0 else []) + _walk(world, p.prefill_head),
        _walk(world, p.slot_head),
        _walk(world, p.decode_head),
    )
    assert p.wait_tail == (queues.wait or [-1])[-1]
    assert p.prefill_tail == (_walk(world, p.prefill_head) or [-1])[-1]
    assert p.slot_tail == (queues.slot or [-1])[-1]
    return queues


def _check_places(world: World, places: list[Queues]) -> None:
    for place, queues in enumerate(places):
        p, shards = world.places[place], world.shards
        assert all(shards[shard].place == place for shard in queues.all)
        assert len(set(queues.all)) == len(queues.all) == p.bound_shards
        assert p.bound_seqs == sum(shards[shard].prompts for shard in queues.all)
        assert p.prefills_left == len(queues.wait) + len(queues.prefill)
        assert p.decoding == sum(shards[shard].prompts for shard in queues.decode)
        assert p.decoding <= p.max_seqs or len(queues.decode) == 1, "too many sequences"
        assert p.prefill_shard >= 0 or p.prefill_head < 0, "nobody prefills, though somebody could"
        if queues.slot:
            assert queues.decode, "nobody decodes, though somebody could"
            assert p.decoding + shards[queues.slot[0]].prompts > p.max_seqs
        if _under_way(world, queues):
            near = _part(world.overlap_indices, world.overlap_indptr, place)
            assert not any(_under_way(world, places[other]) for other in near), "a device works for two places"


def _under_way(world: World, queues: Queues) -> bool:
    return bool(queues.prefill or queues.prefilled or any(world.shards[shard].admitted for shard in queues.wait))


def _check_weights(world: World, places: list[Queues]) -> None:
    used, loading = [0.0] * len(world.devices), [0] * len(world.devices)
    unreserved = {(load.place, load.model) for load in world.loads[: world.tally[0].loads] if not load.reserved}
    users: Counter[tuple[int, int]] = Counter()
    for place, queues in enumerate(places):
        for shard in queues.all:
            model = world.stages[world.shards[shard].stage].model
            users[place, model] += 1 if shard not in queues.wait else world.shards[shard].admitted
            if shard not in queues.wait:
                assert world.resident[place, model].status == LOADED, "a model is used that is not loaded"
        for model in range(len(world.models)):
            resident = world.resident[place, model]
            assert resident.users == users[place, model]
            if resident.status == ABSENT:
                assert resident.users == 0
                continue
            assert world.prefill_tps[model, place] > 0, "a model lies where it can't run"
            for device in _part(world.member_indices, world.member_indptr, place):
                if (place, model) not in unreserved:
                    used[device] += world.models[model].weights_bytes / world.models[model].group_size
                loading[device] += resident.status == LOADING
    for device, d in enumerate(world.devices):
        assert d.used_bytes == pytest.approx(used[device])
        assert d.used_bytes <= d.memory_bytes * (1 + 1e-9), "more weights than memory"
        assert d.loading == loading[device] <= 1, "two loads at once"
    for node, used_s in enumerate(world.host_used_s.tolist()):
        held = sum(model.weights_bytes for model, t in zip(world.models, used_s, strict=True) if t >= 0)
        assert held <= world.host_bytes[node] * (1 + 1e-9)


def _check_caches(world: World, places: list[Queues]) -> None:
    size = len(world.segments)
    refcount: Counter[int] = Counter()
    for place, queues in enumerate(places):
        for shard in queues.all:
            bound = world.shards[shard]
            chain = _part(world.chain_indices, world.chain_indptr, bound.stage)
            refcount.update(place * size + segment for segment in chain[: bound.retained])
    held = [index for index, cell in enumerate(world.cells) if cell.refcount >= 0]
    assert {cell: world.cells[cell].refcount for cell in held if world.cells[cell].refcount} == refcount
    by_device: dict[int, list[int]] = defaultdict(list)
    for cell in held:
        by_device[world.places[cell // size].home].append(cell)
        model = world.segments[cell % size].model
        assert world.resident[cell // size, model].status == LOADED, "a prefix outlives its model"
    for home, device in enumerate(world.devices):
        chained = _linked_cells(world, device)
        assert sorted(chained) == sorted(by_device[home])
        assert device.kv_used == sum(world.segments[cell % size].tokens for cell in chained)
        assert 0 <= device.kv_used <= device.kv_tokens, "more cached than there is room for"


def _linked_cells(world: World, device: Any) -> list[int]:
    cells: list[int] = []
    cell = device.oldest
    while cell >= 0:
        assert cell not in cells, "a list of segments bites its tail"
        cells.append(cell)
        cell = world.cells[cell].newer
    assert device.newest == (cells[-1] if cells else -1)
    assert not cells or world.cells[cells[0]].older == -1
    assert all(world.cells[newer].older == older for older, newer in pairwise(cells))
    return cells


def _check_work(world: World, places: list[Queues]) -> None:
    stages, tally = world.stages, world.tally[0]
    assert sorted(world.ready[: tally.ready]) == [n for n, s in enumerate(stages) if s.status == READY]
    left: Counter[int] = Counter()
    bound = {shard for queues in places for shard in queues.all}
    backlog_s = np.zeros_like(world.backlog_s)
    for index, s in enumerate(stages):
        parents = _part(world.parent_indices, world.parent_indptr, index)
        assert s.parents_left == sum(stages[parent].status != DONE for parent in parents)
        assert s.status not in (READY, BOUND, DONE) or s.parents_left == 0, "starts before its parents end"
        own = range(s.first_shard, s.first_shard + s.shards)
        assert s.shards_left == len(bound.intersection(own))
        assert (s.status == BOUND and s.tool == 0) == (s.shards_left > 0)
        if s.status in (BOUND, DONE) and not s.tool:
            assert sum(world.shards[shard].prompts for shard in own) == s.prompts, "not all prompts, or some twice"
        left[s.workflow] += s.status != DONE
        if not s.tool and s.status not in (BOUND, DONE) and world.workflows[s.workflow].arrival_s <= tally.now:
            assert 0 <= s.steps <= STEPS
            backlog_s[s.model, s.steps] += s.work_s
    assert all(workflow.left == left[index] for index, workflow in enumerate(world.workflows))
    assert tally.stages_left == left.total()
    assert np.abs(world.backlog_s - backlog_s).max() < 1e-6
