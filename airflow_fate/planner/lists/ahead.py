"""Which models should be loaded before a stage asks for them?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.residency import ask, evict, evictable, read_s
from airflow_fate.physics.kernel.world import PREFETCH, REPLICATE, World
from airflow_fate.planner.lists.quote import gate_s
from airflow_fate.planner.lists.rooms import choose_victims, eviction_harm_s, gain, lose
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, NOW_S, View

_ENOUGH = 0.5
"""A further replica pays from this much of a place's need on."""
_SPARE_LOADS = 64


@compiled
def load_ahead(world: World, view: View, rule: Rule) -> None:
    """Load, on places that have nothing to do, the models that the next steps need more of than there are."""
    now = world.tally[0].now
    places, models = world.places.shape[0], world.models.shape[0]
    for place in range(places):
        p = world.places[place]
        if (
            p.usable == 0
            or view.seqs[place] > 0
            or view.closed_s[place] > now + NOW_S
            or gate_s(world, view, place) > now + NOW_S
        ):
            continue
        if world.tally[0].prefetched >= world.shards.shape[0] + _SPARE_LOADS:
            return
        best, best_s = -1, 0.0
        for m in range(models):
            if world.prefill_tps[m, place] <= 0.0 or view.ready_s[place, m] < NEVER_S:
                continue
            missing = view.need[m] - view.supply[m]
            if (
                missing < (_ENOUGH if view.replicas[m] > 0 else 1e-6)
                or world.coming_s[m, 0] + world.coming_s[m, 1] <= 1e-9
            ):
                continue
            victims = choose_victims(world, view, rule, place, m)
            if victims < 0:
                continue
            worth_s = read_s(world, place, m) * min(1.0, missing)
            for k in range(victims):
                other, gone = view.victims[0, k], view.victims[1, k]
                if not evictable(world, other, gone) or view.until_s[other, gone] > now + NOW_S:
                    worth_s = -1.0
                    break
                worth_s -= eviction_harm_s(world, view, other, gone) + rule.keep * view.lost_s[other, gone]
            if worth_s > best_s:
                best, best_s = m, worth_s
        if best < 0:
            continue
        for k in range(choose_victims(world, view, rule, place, best)):
            other, gone = view.victims[0, k], view.victims[1, k]
            lose(world, view, other, gone)
            evict(world, other, gone)
        ask(world, place, best, REPLICATE if view.replicas[best] > 0 else PREFETCH)
        world.tally[0].prefetched += 1
        gain(world, view, place, best, now + read_s(world, place, best))
        for j in range(world.member_at[place], world.member_at[place + 1]):
            d = world.member[j]
            view.gate_s[d] = view.ready_s[place, best]
            view.used_bytes[d] = world.devices[d].used_bytes
