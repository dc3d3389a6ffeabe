"""Which tokens of a prompt need not be computed again? The prefix caches: least recently used out, never one in use."""

from __future__ import annotations

from airflow_fate.physics.jit import terms
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import World


@compiled
def cached_tokens(world: World, stage: int, place: int) -> float:
    """Tokens of the longest chain of leading segments that lies on the place; at least one token is always computed."""
    base = place * world.segments.shape[0]
    tokens = 0.0
    for k in range(world.chain_indptr[stage], world.chain_indptr[stage + 1]):
        segment = world.chain_indices[k]
        if world.cells[base + segment].refcount < 0:
            break
        tokens += world.segments[segment].tokens
    return terms.reusable_tokens(tokens, world.stages[stage].prompt_tokens)


@compiled
def shared_tokens(world: World, stage: int) -> float:
    """Leading tokens that all prompts of the stage have in common."""
    s = world.stages[stage]
    tokens = s.prefix_tokens
    if s.continues >= 0:
        tokens += world.segments[world.stages[s.continues].conversation].tokens
    return terms.reusable_tokens(tokens, s.prompt_tokens)


@compiled
def prefill_tokens(world: World, stage: int, prompts: int, cached: float) -> float:
    """Tokens that a shard computes: its first prompt what is not cached, the others what they don't share either."""
    shared = shared_tokens(world, stage) if prompts > 1 else 0.0
    return terms.prefill_tokens(prompts, world.stages[stage].prompt_tokens, cached, shared)


@compiled
def _unlink(world: World, home: int, cell: int) -> None:
    cells, devices = world.cells, world.devices
    older, newer = cells[cell].older, cells[cell].newer
    if older >= 0:
        cells[older].newer = newer
    else:
        devices[home].oldest = newer
    if newer >= 0:
        cells[newer].older = older
    else:
        devices[home].newest = older


@compiled
def _append(world: World, home: int, cell: int) -> None:
    cells, devices = world.cells, world.devices
    last = devices[home].newest
    cells[cell].older = last
    cells[cell].newer = -1
    if last >= 0:
        cells[last].newer = cell
    else:
        devices[home].oldest = cell
    devices[home].newest = cell


@compiled
def forget(world: World, place: int, cell: int) -> None:
    home = world.places[place].home
    _unlink(world, home, cell)
    world.cells[cell].refcount = -1
    world.devices[home].kv_used -= world.segments[cell - place * world.segments.shape[0]].tokens


@compiled
def forget_model(world: World, place: int, model: int) -> None:
    """A model that is evicted takes its cached prefixes along."""
    size = world.segments.shape[0]
    cell = world.devices[world.places[place].home].oldest
    while cell >= 0:
        newer = world.cells[cell].newer
        if cell // size == place and world.segments[cell % size].model == model:
            forget(world, place, cell)
        cell = newer


@compiled
def remember(world: World, place: int, segment: int) -> bool:
    """Keep a segment, as the most recently used one; False where what is in use leaves no room for it."""
    size = world.segments.shape[0]
    home, cell = world.places[place].home, place * size + segment
    if world.cells[cell].refcount >= 0:
        _unlink(world, home, cell)
        _append(world, home, cell)
        return True
    device = world.devices[home]
    tokens = world.segments[segment].tokens
    old = device.oldest
    excess = device.kv_used + tokens - device.kv_tokens
    if excess > 0.0:
        while old >= 0 and excess > 0.0:
            if world.cells[old].refcount == 0:
                excess -= world.segments[old % size].tokens
            old = world.cells[old].newer
        if excess > 0.0:
            return False
        excess = device.kv_used + tokens - device.kv_tokens
        old = device.oldest
        while excess > 0.0:
            newer = world.cells[old].newer
            if world.cells[old].refcount == 0:
                excess -= world.segments[old % size].tokens
                forget(world, old // size, old)
            old = newer
    world.cells[cell].refcount = 0
    _append(world, home, cell)
    world.devices[home].kv_used += tokens
    return True


@compiled
def use_chain(world: World, stage: int, place: int, retained: int) -> int:
    """Keep the stage's segments on the place and hold references to them; as many as already were held stay so.

    Segments are touched innermost first, so that the outermost, which others share, are dropped last.

    A conversation lies only where it was held, so a chain that continues one which is not there leaves nothing behind.

    :param retained: leading segments that are held already.
    :returns: leading segments that are held now.
    """
    if world.stages[stage].continues >= 0 and retained == 0:
        return 0
    base = place * world.segments.shape[0]
    first, end = world.chain_indptr[stage], world.chain_indptr[stage + 1]
    count = retained
    for k in range(first + retained, end):
        if not remember(world, place, world.chain_indices[k]):
            break
        world.cells[base + world.chain_indices[k]].refcount += 1
        count += 1
    for k in range(first + count - 1, first - 1, -1):
        remember(world, place, world.chain_indices[k])
    return count


@compiled
def retain_cached(world: World, stage: int, place: int) -> int:
    """Hold the leading segments that lie there, so that none leaves while it is used; their number."""
    base = place * world.segments.shape[0]
    count = 0
    for k in range(world.chain_indptr[stage], world.chain_indptr[stage + 1]):
        cell = base + world.chain_indices[k]
        if world.cells[cell].refcount < 0:
            break
        world.cells[cell].refcount += 1
        count += 1
    return count


@compiled
def release(world: World, stage: int, place: int, retained: int) -> None:
    base = place * world.segments.shape[0]
    first = world.chain_indptr[stage]
    for k in range(first, first + retained):
        world.cells[base + world.chain_indices[k]].refcount -= 1
