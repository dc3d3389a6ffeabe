"""Which models are needed where, from when does one fit, what must leave for it, and what does that cost?"""

from __future__ import annotations

from airflow_fate.physics.dynamics.residency import read_s, share_bytes
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import fits
from airflow_fate.physics.world.arrays import STEPS, World
from airflow_fate.planner.forecast.profile import NEVER_S, Profile
from airflow_fate.planner.forecast.sight import FUTURE_NEED, NEXT_USE, Eviction

_DISCOUNT = 0.6
_LOOKAHEAD_STEPS = 3
_UNKNOWN_S = -1.0


@compiled
def assess_need(world: World, profile: Profile) -> None:
    """Fill in need, supply and pressure.

    A model needs its share of the work that comes within the next steps, discounted. A place is needed for the work of
    the models that it can hold, shared out over all places that can.
    """
    models, places = world.models.shape[0], world.places.shape[0]
    total = 0.0
    for m in range(models):
        work, weight = 0.0, 1.0
        for k in range(_LOOKAHEAD_STEPS):
            work += weight * max(0.0, world.backlog_s[m, k])
            weight *= _DISCOUNT
        profile.need[m] = work
        total += work
    mean = 0.0
    for p in range(places):
        profile.pressure[p] = 0.0
    for m in range(models):
        able = 0
        for p in range(places):
            able += world.prefill_tps[m, p] > 0
        for p in range(places):
            if world.prefill_tps[m, p] > 0:
                profile.pressure[p] += profile.need[m] / able
                mean += profile.need[m] / able
        profile.need[m] *= places / total if total > 0 else 0.0
    for p in range(places):
        profile.pressure[p] = profile.pressure[p] * places / mean if mean > 0 else 1.0
    for m in range(models):
        profile.supply[m] = 0.0
    for p in range(places):
        _count_supply(world, profile, p, 1.0)


@compiled
def gain(world: World, profile: Profile, place: int, model: int, ready_s: float) -> None:
    """The place is to have the model from then on."""
    _count_supply(world, profile, place, -1.0)
    profile.ready_s[place, model] = ready_s
    profile.replicas[model] += 1
    _count_supply(world, profile, place, 1.0)


@compiled
def lose(world: World, profile: Profile, place: int, model: int) -> None:
    """The place is to have the model no longer."""
    _count_supply(world, profile, place, -1.0)
    profile.ready_s[place, model] = NEVER_S
    profile.replicas[model] -= 1
    _count_supply(world, profile, place, 1.0)


@compiled
def _count_supply(world: World, profile: Profile, place: int, sign: float) -> None:
    """Add the place's time to what its models have, or take it away before they change."""
    for m in range(world.models.shape[0]):
        if profile.ready_s[place, m] < NEVER_S:
            profile.supply[m] += sign * _share_of(world, profile, place, m)


@compiled
def _share_of(world: World, profile: Profile, place: int, model: int) -> float:
    """The part of the place's time that goes to the model, if its models share it by how much they are needed."""
    total, count = 0.0, 0
    for m in range(world.models.shape[0]):
        if profile.ready_s[place, m] < NEVER_S:
            total += profile.need[m]
            count += 1
    return profile.need[model] / total if total > 0.0 else 1.0 / count


@compiled
def _next_use(world: World, model: int) -> int:
    """Steps until the model is used by a known stage; one more than all counted where none will."""
    for k in range(STEPS + 1):
        if world.backlog_s[model, k] > 1e-9:
            return k
    return STEPS + 1


@compiled
def _reload_s(world: World, profile: Profile, place: int, model: int) -> float:
    """Seconds that loading the model again would cost, by how likely it will be missed here."""
    missed = profile.need[model] - (profile.supply[model] - _share_of(world, profile, place, model))
    if missed <= 0.0:
        return 0.0
    return read_s(world, place, model) * min(1.0, missed)


@compiled
def fits_from_s(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> float:
    """From when the model fits there; `NEVER_S` where it never does.

    Found out once for each state of the profile, with what the evictions cost, which ``eviction_cost_s`` tells.
    """
    if profile.fits_from_s[place, model] == _UNKNOWN_S:
        _plan_evictions(world, profile, eviction, place, model)
    return profile.fits_from_s[place, model]


@compiled
def _plan_evictions(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> None:
    count = choose_victims(world, profile, eviction, place, model)
    if count < 0:
        profile.fits_from_s[place, model] = NEVER_S
        profile.eviction_cost_s[place, model] = 0.0
        return
    from_s, cost_s = world.tally[0].now, 0.0
    for k in range(count):
        other, m = profile.victims[0, k], profile.victims[1, k]
        from_s = max(from_s, profile.in_use_until_s[other, m], profile.ready_s[other, m])
        cost_s += victim_cost_s(world, profile, eviction, other, m)
    profile.fits_from_s[place, model] = from_s
    profile.eviction_cost_s[place, model] = cost_s


@compiled
def victim_cost_s(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> float:
    """What it costs those that come after when the model leaves the place."""
    lost_s = eviction.lost_prefixes * profile.lost_prefix_s[place, model]
    return eviction.reload * _reload_s(world, profile, place, model) + lost_s


@compiled
def forget_evictions(world: World, profile: Profile, place: int) -> None:
    """After something was placed there: what fits must be found out anew, there and where a device is shared."""
    for m in range(world.models.shape[0]):
        profile.fits_from_s[place, m] = _UNKNOWN_S
    for k in range(world.overlap_indptr[place], world.overlap_indptr[place + 1]):
        for m in range(world.models.shape[0]):
            profile.fits_from_s[world.overlap_indices[k], m] = _UNKNOWN_S


@compiled
def choose_victims(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> int:
    """Fill ``profile.victims``; their number, or -1 where the model never fits.

    Idle models leave before those in use, then what the rule evicts by, then what was used longest ago.
    """
    share = share_bytes(world, model)
    first, end = world.member_indptr[place], world.member_indptr[place + 1]
    for k in range(first, end):
        if not fits(0.0, share, world.devices[world.member_indices[k]].memory_bytes):
            return -1
    count = 0
    while True:
        short = False
        for k in range(first, end):
            if _is_short(world, profile, world.member_indices[k], share, count):
                short = True
        if not short:
            return count
        best_place, best, best_until_s, best_loss_s, best_used_s = -1, -1, 0.0, 0.0, 0.0
        for k in range(world.overlap_indptr[place] - 1, world.overlap_indptr[place + 1]):
            other = place if k < world.overlap_indptr[place] else world.overlap_indices[k]
            for m in range(world.models.shape[0]):
                if profile.ready_s[other, m] >= NEVER_S or (other == place and m == model):
                    continue
                if _is_chosen(profile, other, m, count) or not _frees(world, profile, place, other, share, count):
                    continue
                until_s = max(profile.in_use_until_s[other, m], profile.ready_s[other, m])
                loss_s = _loss_s(world, profile, eviction, other, m)
                used_s = world.resident[other, m].used_s
                if best < 0 or (until_s, loss_s, used_s) < (best_until_s, best_loss_s, best_used_s):
                    best_place, best = other, m
                    best_until_s, best_loss_s, best_used_s = until_s, loss_s, used_s
        if best < 0:
            return -1
        profile.victims[0, count] = best_place
        profile.victims[1, count] = best
        count += 1


@compiled
def take_victims(world: World, profile: Profile, victims: int) -> None:
    """In the profile, the chosen victims are gone."""
    for k in range(victims):
        place, model = profile.victims[0, k], profile.victims[1, k]
        lose(world, profile, place, model)
        share = share_bytes(world, model)
        for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
            profile.used_bytes[world.member_indices[j]] -= share
        forget_evictions(world, profile, place)


@compiled
def missed_s(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> float:
    """Seconds by which the model will be missed on the place: to load it, and to compute its prefixes again."""
    return _reload_s(world, profile, place, model) + eviction.lost_prefixes * profile.lost_prefix_s[place, model]


@compiled
def _loss_s(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> float:
    """Of models that are idle at the same time, that with the smallest loss leaves first."""
    if eviction.evict_by == NEXT_USE:
        return -float(_next_use(world, model))
    if eviction.evict_by == FUTURE_NEED:
        return missed_s(world, profile, eviction, place, model)
    return 0.0


@compiled
def _is_chosen(profile: Profile, place: int, model: int, count: int) -> bool:
    for k in range(count):
        if profile.victims[0, k] == place and profile.victims[1, k] == model:
            return True
    return False


@compiled
def _serves(world: World, place: int, device: int) -> bool:
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        if world.member_indices[k] == device:
            return True
    return False


@compiled
def _is_short(world: World, profile: Profile, device: int, share: float, count: int) -> bool:
    """Whether the device lacks room for so much, with so many victims gone."""
    freed = 0.0
    for k in range(count):
        if _serves(world, profile.victims[0, k], device):
            freed += share_bytes(world, profile.victims[1, k])
    return not fits(profile.used_bytes[device] - freed, share, world.devices[device].memory_bytes)


@compiled
def _frees(world: World, profile: Profile, place: int, other: int, share: float, count: int) -> bool:
    """Whether an eviction from ``other`` frees a device of the place that still lacks room."""
    for k in range(world.member_indptr[place], world.member_indptr[place + 1]):
        d = world.member_indices[k]
        if _is_short(world, profile, d, share, count) and _serves(world, other, d):
            return True
    return False
