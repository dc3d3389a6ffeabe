"""Which models should be loaded before a stage asks for them?"""

from __future__ import annotations

from airflow_fate.physics.dynamics.residency import ask, evict, evictable, read_s
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import PREFETCH, REPLICATE, World
from airflow_fate.planner.forecast.profile import NEVER_S, Profile, loads_done_s
from airflow_fate.planner.forecast.residency import choose_victims, gain, lose, missed_s
from airflow_fate.planner.forecast.sight import Eviction

_ENOUGH = 0.5
"""A further replica pays from this much of a place's need on."""
_SPARE_LOADS = 64


@compiled
def prefetch(world: World, profile: Profile, eviction: Eviction) -> None:
    """Load, on places that have nothing to do, the models that the next steps need more of than there are."""
    for place in range(world.places.shape[0]):
        if not _is_idle(world, profile, place):
            continue
        if world.tally[0].prefetched >= world.shards.shape[0] + _SPARE_LOADS:
            return
        best, best_s = -1, 0.0
        for m in range(world.models.shape[0]):
            worth_s = _worth_s(world, profile, eviction, place, m)
            if worth_s > best_s:
                best, best_s = m, worth_s
        if best >= 0:
            _load(world, profile, eviction, place, best)


@compiled
def _is_idle(world: World, profile: Profile, place: int) -> bool:
    now_s = world.tally[0].now + SAME_TIME_S
    if world.places[place].usable == 0 or profile.sequences[place] > 0 or profile.exclusive_until_s[place] > now_s:
        return False
    return loads_done_s(world, profile, place) <= now_s


@compiled
def _worth_s(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> float:
    """Seconds of loading that it spares, less those by which the models that leave for it will be missed; 0 or less
    where it should not be loaded there."""
    if world.prefill_tps[model, place] <= 0.0 or profile.ready_s[place, model] < NEVER_S:
        return 0.0
    missing = profile.need[model] - profile.supply[model]
    if missing < (_ENOUGH if profile.replicas[model] > 0 else 1e-6):
        return 0.0
    if world.backlog_s[model, 0] + world.backlog_s[model, 1] <= 1e-9:
        return 0.0
    victims = choose_victims(world, profile, eviction, place, model)
    if victims < 0:
        return 0.0
    worth_s = read_s(world, place, model) * min(1.0, missing)
    for k in range(victims):
        other, gone = profile.victims[0, k], profile.victims[1, k]
        in_use = profile.in_use_until_s[other, gone] > world.tally[0].now + SAME_TIME_S
        if in_use or not evictable(world, other, gone):
            return 0.0
        worth_s -= missed_s(world, profile, eviction, other, gone)
    return worth_s


@compiled
def _load(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> None:
    for k in range(choose_victims(world, profile, eviction, place, model)):
        other, gone = profile.victims[0, k], profile.victims[1, k]
        lose(world, profile, other, gone)
        evict(world, other, gone)
    ask(world, place, model, REPLICATE if profile.replicas[model] > 0 else PREFETCH)
    world.tally[0].prefetched += 1
    gain(world, profile, place, model, world.tally[0].now + read_s(world, place, model))
    for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
        d = world.member_indices[j]
        profile.loads_done_s[d] = profile.ready_s[place, model]
        profile.used_bytes[d] = world.devices[d].used_bytes
