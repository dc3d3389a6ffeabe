"""What would every stage of the wave cost on every place? One compiled pass over world and view."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.residency import evictable, read_s
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.decide import look
from airflow_fate.planner.lists.order import fill_keys, sort_frontier
from airflow_fate.planner.lists.quote import latest_start_s, quote
from airflow_fate.planner.lists.rooms import eviction_harm_s
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, View, seats_from_s

Floats = NDArray[np.float64]


class Quotes(NamedTuple):
    """Seconds from now; [stage, place], where not said otherwise."""

    start_s: Floats
    end_s: Floats
    """[stage, place, prompts] with what it costs others; for 0 the whole stage, for 1 and 2 so many of its prompts."""
    lane_s: Floats
    load_s: Floats
    """0 where the model is there."""
    harm_s: Floats
    """[place, model] what the eviction of an idle model costs others; -1 where there is none to evict."""
    capacity: NDArray[np.int64]
    """[place] sequences that it takes when it next has room."""


def quotes(world: World, view: View, rule: Rule, most_stages: int) -> tuple[NDArray[np.int64], Quotes]:
    """The frontier's head in the rule's order, and what it is quoted."""
    places, models = world.places.shape[0], world.models.shape[0]
    capacity, harm = np.zeros(places, dtype=np.int64), np.zeros((places, models))
    begin_quotes(world, view, rule, capacity, harm)
    count = min(int(world.tally[0].ready), most_stages, 2 * int(capacity.sum()))
    stages = view.order[:count].copy()
    made = Quotes(
        start_s=np.zeros((count, places)),
        end_s=np.zeros((count, places, 3)),
        lane_s=np.zeros((count, places)),
        load_s=np.zeros((count, places)),
        harm_s=harm,
        capacity=capacity,
    )
    fill_quotes(world, view, rule, stages, made)
    return stages, made


@compiled
def begin_quotes(world: World, view: View, rule: Rule, capacity: NDArray[np.int64], harm_s: Floats) -> None:
    look(world, view, rule)
    fill_keys(world, view, rule)
    sort_frontier(world, view, world.tally[0].ready)
    latest_s = latest_start_s(rule, world.tally[0].now)
    for place in range(world.places.shape[0]):
        p = world.places[place]
        free = p.max_seqs - view.seqs[place]
        if free <= 0 and seats_from_s(world, view, place, 1) <= latest_s:
            free = min(p.max_seqs, view.seat_seqs[place, 0])
        if p.usable != 0 and view.closed_s[place] <= latest_s:
            capacity[place] = max(0, free)
        for m in range(world.models.shape[0]):
            harm_s[place, m] = -1.0
            if evictable(world, place, m):
                lost_s = rule.keep * view.lost_s[place, m]
                harm_s[place, m] = rule.harm * eviction_harm_s(world, view, place, m) + lost_s


@compiled
def fill_quotes(world: World, view: View, rule: Rule, stages: NDArray[np.int64], made: Quotes) -> None:
    now = world.tally[0].now
    for k in range(stages.shape[0]):
        stage = stages[k]
        s = world.stages[stage]
        for place in range(world.places.shape[0]):
            for count in range(3):
                prompts = count if count > 0 else s.prompts
                if prompts > s.prompts or (count > 0 and s.max_shards < 2):
                    made.end_s[k, place, count] = NEVER_S
                    continue
                offer = quote(world, view, rule, stage, place, prompts)
                can, others_s = offer.finish_s < NEVER_S, offer.others_s
                absent = view.ready_s[place, s.model] >= NEVER_S
                if absent and can:
                    # Evictions have prices of their own.
                    others_s -= view.harm_s[place, s.model]
                made.end_s[k, place, count] = offer.finish_s - now + others_s if can else NEVER_S
                if count == 0:
                    made.start_s[k, place] = offer.start_s - now if offer.start_s < NEVER_S else NEVER_S
                    made.lane_s[k, place] = offer.end_s - offer.begin_s
                    made.load_s[k, place] = read_s(world, place, s.model) if absent and can else 0.0
