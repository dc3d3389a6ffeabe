"""Which models lie where? Loads, one after another on each device, and evictions, never of a model in use."""

from __future__ import annotations

from airflow_fate.physics.dynamics import events, log
from airflow_fate.physics.dynamics.heap import push
from airflow_fate.physics.dynamics.prefix_cache import forget_model
from airflow_fate.physics.jit import terms
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import ABSENT, ASKED, LOADED, LOADING, World


@compiled
def share_bytes(world: World, model: int) -> float:
    """Weights on each device that serves the model."""
    return terms.member_bytes(world.models[model].weights_bytes, world.models[model].group_size)


@compiled
def evictable(world: World, place: int, model: int) -> bool:
    resident = world.resident[place, model]
    return resident.status == LOADED and resident.users == 0


@compiled
def evict(world: World, place: int, model: int) -> None:
    world.resident[place, model].status = ABSENT
    share = share_bytes(world, model)
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        world.devices[world.member_indices[k]].used_bytes -= share
    forget_model(world, place, model)
    log.note_evict(world, place, model)


@compiled
def fits(world: World, place: int, model: int) -> bool:
    share = share_bytes(world, model)
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        device = world.devices[world.member_indices[k]]
        if not terms.fits(device.used_bytes, share, device.memory_bytes):
            return False
    return True


@compiled
def _reserve(world: World, place: int, model: int) -> None:
    share = share_bytes(world, model)
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        world.devices[world.member_indices[k]].used_bytes += share


@compiled
def _helps(world: World, place: int, model: int, other: int) -> bool:
    """Whether evicting something from ``other`` frees a device that the model lacks room on."""
    share = share_bytes(world, model)
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        device = world.devices[world.member_indices[k]]
        if not terms.fits(device.used_bytes, share, device.memory_bytes):
            for j in range(world.member_indptr[other], world.member_indptr[other + 1]):
                if world.member_indices[j] == world.member_indices[k]:
                    return True
    return False


@compiled
def make_room(world: World, place: int, model: int) -> bool:
    """Evict what was used longest ago until the model fits; False, with some evicted, if idle models don't suffice."""
    while not fits(world, place, model):
        oldest_place, oldest, oldest_s = -1, -1, 0.0
        for k in range(world.overlap_indptr[place] - 1, world.overlap_indptr[place + 1]):
            other = place if k < world.overlap_indptr[place] else world.overlap_indices[k]
            if not _helps(world, place, model, other):
                continue
            for m in range(world.models.shape[0]):
                if evictable(world, other, m) and (oldest < 0 or world.resident[other, m].used_s < oldest_s):
                    oldest_place, oldest, oldest_s = other, m, world.resident[other, m].used_s
        if oldest < 0:
            return False
        evict(world, oldest_place, oldest)
    return True


@compiled
def ask(world: World, place: int, model: int, why: int) -> None:
    """Have the model loaded once the loads before it have ended. Room that is there now is kept for it."""
    resident = world.resident[place, model]
    resident.status = ASKED
    at = world.tally[0].loads
    world.tally[0].loads = at + 1
    load = world.loads[at]
    load.place, load.model, load.why = place, model, why
    load.reserved = 1 if fits(world, place, model) else 0
    if load.reserved == 1:
        _reserve(world, place, model)


@compiled
def waits_for_room(world: World, place: int) -> bool:
    """Whether a load on the place or on one that shares a device waits for models in use to go."""
    for k in range(world.tally[0].loads):
        load = world.loads[k]
        if load.reserved == 0:
            if load.place == place:
                return True
            for j in range(world.overlap_indptr[place], world.overlap_indptr[place + 1]):
                if world.overlap_indices[j] == load.place:
                    return True
    return False


@compiled
def read_s(world: World, place: int, model: int) -> float:
    """Seconds to read the weights now: from the node's host memory, where they still lie there, or from disk."""
    m = world.models[model]
    rate = m.host_bytes_per_s if world.host_used_s[world.places[place].node, model] >= 0 else m.disk_bytes_per_s
    return terms.read_s(m.weights_bytes, m.group_size, rate * world.load_factor[model, place])


@compiled
def start_loads(world: World) -> int:
    """Start each load whose devices load nothing else and which no earlier load waits before; how many started."""
    tally = world.tally
    now = tally[0].now
    kept = 0
    for k in range(tally[0].loads):
        place, model = world.loads[k].place, world.loads[k].model
        free = True
        for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
            if world.devices[world.member_indices[j]].loading != 0:
                free = False
        for j in range(kept):
            if world.loads[j].place == place:
                free = False
            for i in range(world.overlap_indptr[place], world.overlap_indptr[place + 1]):
                if world.overlap_indices[i] == world.loads[j].place:
                    free = False
        if free and world.loads[k].reserved == 0 and make_room(world, place, model):
            world.loads[k].reserved = 1
            _reserve(world, place, model)
        if not free or world.loads[k].reserved == 0:
            if kept != k:
                world.loads[kept] = world.loads[k]
            kept += 1
            continue
        node = world.places[place].node
        seconds = read_s(world, place, model)
        from_host = world.host_used_s[node, model] >= 0
        resident = world.resident[place, model]
        resident.status = LOADING
        resident.ready_s = now + seconds
        for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
            world.devices[world.member_indices[j]].loading = 1
        push(world, now + seconds, events.LOADED, place, model)
        log.note_load(world, place, model, world.loads[k].why, from_host, seconds)
    started = tally[0].loads - kept
    tally[0].loads = kept
    return started


@compiled
def loaded(world: World, place: int, model: int) -> None:
    """A load has ended: the model can be used, and the node's memory has its weights."""
    now = world.tally[0].now
    resident = world.resident[place, model]
    resident.status = LOADED
    resident.ready_s = now
    resident.used_s = now
    for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
        world.devices[world.member_indices[j]].loading = 0
    _keep_in_host(world, world.places[place].node, model, now)


@compiled
def _keep_in_host(world: World, node: int, model: int, now: float) -> None:
    used_s, models = world.host_used_s, world.models
    used_s[node, model] = now
    while True:
        held, oldest = 0.0, -1
        for m in range(models.shape[0]):
            if used_s[node, m] >= 0:
                held += models[m].weights_bytes
                if m != model and (oldest < 0 or used_s[node, m] < used_s[node, oldest]):
                    oldest = m
        if terms.fits(held, 0.0, world.host_bytes[node]):
            return
        if oldest < 0:
            used_s[node, model] = -1.0
            return
        used_s[node, oldest] = -1.0
