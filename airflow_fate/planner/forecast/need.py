"""How many places should each model have, and how much is each place needed?"""

from __future__ import annotations

from airflow_fate.physics.dynamics.residency import read_s
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import STEPS, World
from airflow_fate.planner.forecast.profile import NEVER_S, Profile

_DISCOUNT = 0.6
_LOOKAHEAD_STEPS = 3


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
def next_use(world: World, model: int) -> int:
    """Steps until the model is used by a known stage; one more than all counted where none will."""
    for k in range(STEPS + 1):
        if world.backlog_s[model, k] > 1e-9:
            return k
    return STEPS + 1


@compiled
def reload_s(world: World, profile: Profile, place: int, model: int) -> float:
    """Seconds that loading the model again would cost, by how likely it will be missed here."""
    missed = profile.need[model] - (profile.supply[model] - _share_of(world, profile, place, model))
    if missed <= 0.0:
        return 0.0
    return read_s(world, place, model) * min(1.0, missed)
