"""What happened? A writer for each kind of row in the event log; a world without room for a log keeps none.

Which columns of ``LogRow`` a kind fills is what its writer takes.
"""

from __future__ import annotations

from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import World

ARRIVE, DONE, READY, FINISH, TOOL, BIND, LOAD, EVICT, TRANSFER, PREFILL, DECODE = range(11)
"""Kinds of rows."""


@compiled
def _add(world: World, t: float, kind: int) -> int:
    """The number of a new row; -1 where there is no room."""
    at = world.tally[0].logged
    if at >= world.log.shape[0]:
        return -1
    world.tally[0].logged = at + 1
    row = world.log[at]
    row.t, row.kind = t, kind
    return at


@compiled
def note_workflow(world: World, kind: int, workflow: int) -> None:
    """``ARRIVE`` or ``DONE``."""
    at = _add(world, world.tally[0].now, kind)
    if at >= 0:
        world.log[at].workflow = workflow


@compiled
def note_stage(world: World, kind: int, stage: int) -> None:
    """``READY`` or ``FINISH``."""
    at = _add(world, world.tally[0].now, kind)
    if at >= 0:
        world.log[at].stage = stage


@compiled
def note_tool(world: World, stage: int, seconds: float) -> None:
    at = _add(world, world.tally[0].now, TOOL)
    if at >= 0:
        row = world.log[at]
        row.stage, row.seconds = stage, seconds


@compiled
def note_bind(world: World, stage: int, shard: int, place: int, prompts: int) -> None:
    """:param shard: number of the shard within its stage, here and below."""
    at = _add(world, world.tally[0].now, BIND)
    if at >= 0:
        row = world.log[at]
        row.stage, row.shard, row.place, row.prompts = stage, shard, place, prompts


@compiled
def note_load(world: World, place: int, model: int, why: int, from_host: bool, seconds: float) -> None:
    at = _add(world, world.tally[0].now, LOAD)
    if at >= 0:
        row = world.log[at]
        row.place, row.model, row.why, row.seconds = place, model, why, seconds
        row.from_host = 1 if from_host else 0


@compiled
def note_evict(world: World, place: int, model: int) -> None:
    at = _add(world, world.tally[0].now, EVICT)
    if at >= 0:
        row = world.log[at]
        row.place, row.model = place, model


@compiled
def note_transfer(
    world: World, t: float, stage: int, shard: int, place: int, parent: int, moved_bytes: float, seconds: float
) -> None:
    """:param t: when it begins; transfers go one after another."""
    at = _add(world, t, TRANSFER)
    if at >= 0:
        row = world.log[at]
        row.stage, row.shard, row.place, row.parent = stage, shard, place, parent
        row.moved_bytes, row.seconds = moved_bytes, seconds


@compiled
def note_prefill(
    world: World, t: float, stage: int, shard: int, place: int, tokens: float, cached: float, seconds: float
) -> None:
    """:param t: when it began."""
    at = _add(world, t, PREFILL)
    if at >= 0:
        row = world.log[at]
        row.stage, row.shard, row.place = stage, shard, place
        row.tokens, row.cached, row.seconds = tokens, cached, seconds


@compiled
def note_decode(world: World, t: float, stage: int, shard: int, place: int, seconds: float) -> None:
    """:param t: when it began."""
    at = _add(world, t, DECODE)
    if at >= 0:
        row = world.log[at]
        row.stage, row.shard, row.place, row.seconds = stage, shard, place, seconds
