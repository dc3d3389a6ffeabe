"""Who runs where, if each decision epoch were the last? Optimal assignment of the waiting stages to the free places.

The linear sum assignment (Kuhn 1955, as scipy solves it) over estimated seconds to the end, with the full
state-conditional cost. Myopic: it knows nothing of what comes after. Adapted: twice as many of the longest waiting
stages as places are offered, and the cost of waiting grows with the time waited, so that nobody is left behind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_fate.physics.dynamics.event_loop import advance, settle
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import Floats, Ints, World
from airflow_fate.planner.dispatch.binding import bind
from airflow_fate.planner.dispatch.rule import Rule, make_rule
from airflow_fate.planner.forecast.estimate import Candidate, estimate
from airflow_fate.planner.forecast.profile import Profile, make_profile
from airflow_fate.planner.forecast.projection import project
from airflow_fate.planner.forecast.residency import assess_need

_RULE = make_rule(by_ready=1)
_CANNOT_S = 1e7


@compiled
def fill_costs(world: World, profile: Profile, rule: Rule, stages: Ints, costs: Floats) -> None:
    now = world.tally[0].now
    for k in range(stages.shape[0]):
        candidate = Candidate(stages[k], now, 0.0, 0.0)
        for place in range(world.places.shape[0]):
            prompts = world.stages[candidate.stage].prompts
            met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
            costs[k, place] = met.finish_s - now if met.start_s <= now + SAME_TIME_S else _CANNOT_S


@compiled
def bind_next(world: World, profile: Profile, rule: Rule, stage: int, place: int) -> None:
    """Bind the stage, with what it meets after those that were bound before it."""
    candidate, prompts = Candidate(stage, world.tally[0].now, 0.0, 0.0), world.stages[stage].prompts
    met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
    bind(world, profile, rule, candidate, place, met)


def drive_assignment(world: World, clock: Callable[[], float]) -> list[float]:
    """Run the world to its end; seconds of each plan."""
    profile = make_profile(world)
    places = len(world.places)
    seconds: list[float] = []
    while advance(world):
        begin = clock()
        while _assign(world, profile, places):
            pass
        settle(world)
        seconds.append(clock() - begin)
    return seconds


def _assign(world: World, profile: Profile, places: int) -> bool:
    """One assignment; whether anything was bound, so that places with more room get another."""
    stages = world.ready[: min(2 * places, int(world.tally[0].ready))].copy()
    if not len(stages):
        return False
    project(world, profile, _RULE.sight)
    assess_need(world, profile)
    costs = np.empty((len(stages), places))
    fill_costs(world, profile, _RULE, stages, costs)
    waited_s = world.tally[0].now - world.stages["ready_s"][stages]
    open_to = costs < _CANNOT_S
    if not open_to.any():
        return False
    rows, columns = linear_sum_assignment(np.where(open_to, costs - waited_s[:, None] - costs.min(), _CANNOT_S))
    bound = False
    for row, place in zip(rows, columns, strict=True):
        if open_to[row, place]:
            bind_next(world, profile, _RULE, int(stages[row]), int(place))
            bound = True
    return bound
