"""Should a batch be split over several places?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import begin_binding
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.binding import bind_part
from airflow_fate.planner.lists.quote import quote
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, NOW_S, View

_WORTH = 0.95
"""A split must end this much sooner than the best single place."""


@compiled
def split_batch(world: World, view: View, rule: Rule, stage: int) -> bool:
    """Give each prompt to the place where the batch then ends soonest; bind if that beats the best single place."""
    s, now = world.stages[stage], world.tally[0].now
    most = min(s.max_shards, rule.most_shards, s.prompts)
    if most < 2:
        return False
    places = world.places.shape[0]
    alone_s = NEVER_S
    open_places = 0
    for place in range(places):
        view.split[place] = -1
        whole = quote(world, view, rule, stage, place, s.prompts)
        alone_s = min(alone_s, whole.finish_s + whole.others_s)
        if quote(world, view, rule, stage, place, 1).start_s <= now + NOW_S:
            view.split[place] = 0
            open_places += 1
    if open_places < 2:
        return False
    used = 0
    last_s = 0.0
    for _ in range(s.prompts):
        best, best_s = -1, NEVER_S
        for place in range(places):
            if view.split[place] < 0 or (view.split[place] == 0 and used >= most):
                continue
            offer = quote(world, view, rule, stage, place, view.split[place] + 1)
            if offer.start_s <= now + NOW_S and offer.finish_s < best_s:
                best, best_s = place, offer.finish_s
        if best < 0:
            return False
        if view.split[best] == 0:
            used += 1
        view.split[best] += 1
        last_s = max(last_s, best_s)
    if used < 2 or last_s - now > _WORTH * (alone_s - now):
        return False
    begin_binding(world, stage)
    for place in range(places):
        prompts = view.split[place]
        if prompts > 0:
            bind_part(world, view, rule, stage, place, prompts)
    return True
