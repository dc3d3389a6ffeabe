"""What would every stage of a dispatch round meet and cost on every place? One compiled pass over world and profile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from airflow_fate.physics.dynamics.residency import evictable, read_s
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import Floats, Ints, World
from airflow_fate.planner.dispatch.choice import externality_s
from airflow_fate.planner.dispatch.dispatch import look
from airflow_fate.planner.dispatch.order import sort_frontier
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import Candidate, estimate, latest_start_s
from airflow_fate.planner.forecast.profile import NEVER_S, Profile, slots_from_s
from airflow_fate.planner.forecast.residency import victim_cost_s


class Estimates(NamedTuple):
    """Seconds from now; [stage, place], where not said otherwise."""

    start_s: Floats
    end_s: Floats
    """[stage, place, prompts] with what it costs others; for 0 the whole stage, for 1 and 2 so many of its prompts."""
    prefill_s: Floats
    load_s: Floats
    """0 where the model is there."""
    eviction_cost_s: Floats
    """[place, model] what the eviction of an idle model costs others; -1 where there is none to evict."""
    capacity: Ints
    """[place] sequences that it takes when it next has room."""


def estimate_all(world: World, profile: Profile, rule: Rule, most_stages: int) -> tuple[Ints, Estimates]:
    """The frontier's head in the rule's order, and what its stages would meet."""
    places, models = world.places.shape[0], world.models.shape[0]
    capacity, eviction_cost_s = np.zeros(places, dtype=np.int64), np.zeros((places, models))
    begin_estimates(world, profile, rule, capacity, eviction_cost_s)
    count = min(int(world.tally[0].ready), most_stages, 2 * int(capacity.sum()))
    stages = profile.order[:count].copy()
    estimates = Estimates(
        start_s=np.zeros((count, places)),
        end_s=np.zeros((count, places, 3)),
        prefill_s=np.zeros((count, places)),
        load_s=np.zeros((count, places)),
        eviction_cost_s=eviction_cost_s,
        capacity=capacity,
    )
    fill_estimates(world, profile, rule, stages, estimates)
    return stages, estimates


@compiled
def begin_estimates(world: World, profile: Profile, rule: Rule, capacity: Ints, eviction_cost_s: Floats) -> None:
    look(world, profile, rule)
    sort_frontier(world, profile, rule.order)
    latest_s = latest_start_s(rule.timing, world.tally[0].now)
    for place in range(world.places.shape[0]):
        p = world.places[place]
        free = p.max_seqs - profile.sequences[place]
        if free <= 0 and slots_from_s(world, profile, place, 1) <= latest_s:
            free = min(p.max_seqs, profile.slot_sequences[place, 0])
        if p.usable != 0 and profile.exclusive_until_s[place] <= latest_s:
            capacity[place] = max(0, free)
        for m in range(world.models.shape[0]):
            eviction_cost_s[place, m] = -1.0
            if evictable(world, place, m):
                eviction_cost_s[place, m] = victim_cost_s(world, profile, rule.eviction, place, m)


@compiled
def fill_estimates(world: World, profile: Profile, rule: Rule, stages: Ints, estimates: Estimates) -> None:
    now = world.tally[0].now
    for k in range(stages.shape[0]):
        s = world.stages[stages[k]]
        candidate = Candidate(stages[k], now, 0.0, 0.0)
        for place in range(world.places.shape[0]):
            for count in range(3):
                prompts = count if count > 0 else s.prompts
                estimates.end_s[k, place, count] = NEVER_S
                if prompts > s.prompts or (count > 0 and s.max_shards < 2):
                    continue
                met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
                can = met.finish_s < NEVER_S
                if can:
                    # Evictions have prices of their own.
                    cost_s = externality_s(world, profile, rule.price, candidate, place, prompts, met, 0.0)
                    estimates.end_s[k, place, count] = met.finish_s - now + cost_s
                if count == 0:
                    loads = can and profile.ready_s[place, s.model] >= NEVER_S
                    estimates.start_s[k, place] = met.start_s - now if met.start_s < NEVER_S else NEVER_S
                    estimates.prefill_s[k, place] = met.end_s - met.begin_s
                    estimates.load_s[k, place] = read_s(world, place, s.model) if loads else 0.0
