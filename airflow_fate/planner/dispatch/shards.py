"""Should a batch be split over several places?"""

from __future__ import annotations

from airflow_fate.physics.dynamics.event_loop import begin_binding
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.binding import bind_part
from airflow_fate.planner.dispatch.choice import best_place
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import Candidate, estimate
from airflow_fate.planner.forecast.profile import EVER_S, NEVER_S, Profile

_WORTH = 0.95
"""A split must end this much sooner than the best single place."""


@compiled
def split_batch(world: World, profile: Profile, rule: Rule, candidate: Candidate) -> bool:
    """Give each prompt to the place where the batch then ends soonest; bind if that beats the best single place."""
    s, now = world.stages[candidate.stage], world.tally[0].now
    most = min(s.max_shards, rule.dispatch.most_shards, s.prompts)
    if most < 2:
        return False
    latest_s = now + SAME_TIME_S
    places = world.places.shape[0]
    _, alone_s, _ = best_place(world, profile, rule, candidate, EVER_S)
    open_places = 0
    for place in range(places):
        profile.split[place] = -1
        first = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, 1)
        if first.start_s <= latest_s:
            profile.split[place] = 0
            open_places += 1
    if open_places < 2:
        return False
    used = 0
    last_s = 0.0
    for _ in range(s.prompts):
        best, best_s = -1, NEVER_S
        for place in range(places):
            count = profile.split[place]
            if count < 0 or (count == 0 and used >= most):
                continue
            met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, count + 1)
            if met.start_s <= latest_s and met.finish_s < best_s:
                best, best_s = place, met.finish_s
        if best < 0:
            return False
        if profile.split[best] == 0:
            used += 1
        profile.split[best] += 1
        last_s = max(last_s, best_s)
    if used < 2 or last_s - now > _WORTH * (alone_s - now):
        return False
    begin_binding(world, candidate.stage)
    for place in range(places):
        prompts = profile.split[place]
        if prompts > 0:
            met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
            bind_part(world, profile, rule, candidate, place, prompts, met)
    return True
