"""From when does a model fit on a place, what must leave for it, and what does that cost those that come after?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.residency import read_s, share_bytes
from airflow_fate.physics.kernel.world import STEPS, World
from airflow_fate.planner.lists.rule import FUTURE_NEED, NEXT_USE, Rule
from airflow_fate.planner.lists.view import NEVER_S, View

_DISCOUNT = 0.6
_LOOKAHEAD = 3
_SOON_S = 1e-9


@compiled
def assess_need(world: World, view: View) -> None:
    """How many places each model should have: its share of the work that comes within the next steps, discounted.

    And how much each place is needed: the work of the models that it can hold, shared out over all that can.
    """
    models, places = world.models.shape[0], world.places.shape[0]
    total = 0.0
    for m in range(models):
        work, weight = 0.0, 1.0
        for k in range(_LOOKAHEAD):
            work += weight * max(0.0, world.coming_s[m, k])
            weight *= _DISCOUNT
        view.need[m] = work
        total += work
    mean = 0.0
    for p in range(places):
        view.pressure[p] = 0.0
    for m in range(models):
        able = 0
        for p in range(places):
            able += world.prefill_tps[m, p] > 0
        for p in range(places):
            if world.prefill_tps[m, p] > 0:
                view.pressure[p] += view.need[m] / able
                mean += view.need[m] / able
        view.need[m] *= places / total if total > 0 else 0.0
    for p in range(places):
        view.pressure[p] = view.pressure[p] * places / mean if mean > 0 else 1.0
    for m in range(models):
        view.supply[m] = 0.0
    for p in range(places):
        count_supply(world, view, p, 1.0)


@compiled
def count_supply(world: World, view: View, place: int, sign: float) -> None:
    """Add the place's time to what its models have, or take it away before they change."""
    for m in range(world.models.shape[0]):
        if view.ready_s[place, m] < NEVER_S:
            view.supply[m] += sign * share_of(world, view, place, m)


@compiled
def gain(world: World, view: View, place: int, model: int, ready_s: float) -> None:
    """The place is to have the model from then on."""
    count_supply(world, view, place, -1.0)
    view.ready_s[place, model] = ready_s
    view.replicas[model] += 1
    count_supply(world, view, place, 1.0)


@compiled
def lose(world: World, view: View, place: int, model: int) -> None:
    count_supply(world, view, place, -1.0)
    view.ready_s[place, model] = NEVER_S
    view.replicas[model] -= 1
    count_supply(world, view, place, 1.0)


@compiled
def share_of(world: World, view: View, place: int, model: int) -> float:
    """The part of the place's time that goes to the model, if its models share it by how much they are needed."""
    total, count = 0.0, 0
    for m in range(world.models.shape[0]):
        if view.ready_s[place, m] < NEVER_S:
            total += view.need[m]
            count += 1
    return view.need[model] / total if total > 0.0 else 1.0 / count


@compiled
def next_use(world: World, model: int) -> int:
    """Steps until the model is used by a known stage; one more than all counted where none will."""
    for k in range(STEPS + 1):
        if world.coming_s[model, k] > 1e-9:
            return k
    return STEPS + 1


@compiled
def eviction_harm_s(world: World, view: View, place: int, model: int) -> float:
    """Seconds that loading it again costs, by how likely it will be missed here."""
    missed = view.need[model] - (view.supply[model] - share_of(world, view, place, model))
    if missed <= 0.0:
        return 0.0
    return read_s(world, place, model) * min(1.0, missed)


@compiled
def _badness(world: World, view: View, rule: Rule, place: int, model: int) -> float:
    """Smaller leaves first, among models that are idle at the same time."""
    if rule.eviction == NEXT_USE:
        return -float(next_use(world, model))
    if rule.eviction == FUTURE_NEED:
        return eviction_harm_s(world, view, place, model) + rule.keep * view.lost_s[place, model]
    return 0.0


@compiled
def choose_victims(world: World, view: View, rule: Rule, place: int, model: int) -> int:
    """Fill ``view.victims``; their number, or -1 where the model never fits.

    Idle models leave before those in use, then what the rule's eviction says, then what was used longest ago.
    """
    share = share_bytes(world, model)
    first, end = world.member_at[place], world.member_at[place + 1]
    for k in range(first, end):
        d = world.member[k]
        if world.devices[d].memory_bytes * (1 + 1e-12) < share:
            return -1
    count = 0
    while True:
        short = False
        for k in range(first, end):
            d = world.member[k]
            if view.used_bytes[d] + share - _freed(world, view, d, count) > world.devices[d].memory_bytes * (1 + 1e-12):
                short = True
        if not short:
            return count
        best_place, best, best_until, best_bad, best_used = -1, -1, 0.0, 0.0, 0.0
        for k in range(world.overlap_at[place] - 1, world.overlap_at[place + 1]):
            other = place if k < world.overlap_at[place] else world.overlap[k]
            for m in range(world.models.shape[0]):
                if view.ready_s[other, m] >= NEVER_S or (other == place and m == model):
                    continue
                if _chosen(view, other, m, count) or not _frees(world, view, place, other, share, count):
                    continue
                until = max(view.until_s[other, m], view.ready_s[other, m])
                bad = _badness(world, view, rule, other, m)
                used = world.resident[other, m].used_s
                if best < 0 or (until, bad, used) < (best_until, best_bad, best_used):
                    best_place, best, best_until, best_bad, best_used = other, m, until, bad, used
        if best < 0:
            return -1
        view.victims[0, count] = best_place
        view.victims[1, count] = best
        count += 1


@compiled
def _chosen(view: View, place: int, model: int, count: int) -> bool:
    for k in range(count):
        if view.victims[0, k] == place and view.victims[1, k] == model:
            return True
    return False


@compiled
def _serves(world: World, place: int, device: int) -> bool:
    for k in range(world.member_at[place], world.member_at[place + 1]):
        if world.member[k] == device:
            return True
    return False


@compiled
def _freed(world: World, view: View, device: int, count: int) -> float:
    freed = 0.0
    for k in range(count):
        if _serves(world, view.victims[0, k], device):
            freed += share_bytes(world, view.victims[1, k])
    return freed


@compiled
def _frees(world: World, view: View, place: int, other: int, share: float, count: int) -> bool:
    """Whether an eviction from ``other`` frees a device of the place that still lacks room."""
    for k in range(world.member_at[place], world.member_at[place + 1]):
        d = world.member[k]
        short = view.used_bytes[d] + share - _freed(world, view, d, count) > world.devices[d].memory_bytes * (1 + 1e-12)
        if short and _serves(world, other, d):
            return True
    return False


@compiled
def room(world: World, view: View, rule: Rule, place: int, model: int) -> None:
    """Find out, once for each state of the view, from when the model fits and what that costs others."""
    now = world.tally[0].now
    count = choose_victims(world, view, rule, place, model)
    if count < 0:
        view.room_s[place, model] = NEVER_S
        view.harm_s[place, model] = 0.0
        return
    from_s, harm = now, 0.0
    for k in range(count):
        other, m = view.victims[0, k], view.victims[1, k]
        from_s = max(from_s, view.until_s[other, m], view.ready_s[other, m])
        harm += rule.harm * eviction_harm_s(world, view, other, m) + rule.keep * view.lost_s[other, m]
    view.room_s[place, model] = from_s
    view.harm_s[place, model] = harm


@compiled
def forget_rooms(world: World, view: View, place: int) -> None:
    """After something was placed there: what fits must be found out anew."""
    for m in range(world.models.shape[0]):
        view.room_s[place, m] = -1.0
    for k in range(world.overlap_at[place], world.overlap_at[place + 1]):
        for m in range(world.models.shape[0]):
            view.room_s[world.overlap[k], m] = -1.0
