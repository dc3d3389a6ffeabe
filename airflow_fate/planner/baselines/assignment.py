"""Who runs where, if each moment were the last? Optimal assignment of the waiting stages to the free places.

The linear sum assignment (Kuhn 1955, as scipy solves it) over estimated seconds to the end, with the full
state-conditional cost. Myopic: it knows nothing of what comes after. Adapted: twice as many of the longest waiting
stages as places are offered, and the cost of waiting grows with the time waited, so that nobody is left behind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import advance, settle
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.binding import bind
from airflow_fate.planner.lists.outlook import fill
from airflow_fate.planner.lists.quote import quote
from airflow_fate.planner.lists.rooms import assess_need
from airflow_fate.planner.lists.rule import Rule, rule
from airflow_fate.planner.lists.view import NOW_S, View, make_view

_RULE = rule(by_ready=1)
_CANNOT_S = 1e7


@compiled
def fill_costs(world: World, view: View, rule: Rule, stages: np.ndarray, costs: np.ndarray) -> None:
    now = world.tally[0].now
    for k in range(stages.shape[0]):
        for place in range(world.places.shape[0]):
            offer = quote(world, view, rule, stages[k], place, world.stages[stages[k]].prompts)
            costs[k, place] = offer.finish_s - now if offer.start_s <= now + NOW_S else _CANNOT_S


def drive_assignment(world: World, clock: Callable[[], float]) -> list[float]:
    """Play the world to its end; seconds of each plan."""
    view = make_view(world)
    places = len(world.places)
    seconds: list[float] = []
    while advance(world):
        begin = clock()
        while _assign(world, view, places):
            pass
        settle(world)
        seconds.append(clock() - begin)
    return seconds


def _assign(world: World, view: View, places: int) -> bool:
    """One assignment; whether anything was bound, so that places with more room get another."""
    stages = world.ready[: min(2 * places, int(world.tally[0].ready))].copy()
    if not len(stages):
        return False
    fill(world, view, _RULE)
    assess_need(world, view)
    costs = np.empty((len(stages), places))
    fill_costs(world, view, _RULE, stages, costs)
    waited_s = world.tally[0].now - world.stages["ready_s"][stages]
    open_to = costs < _CANNOT_S
    if not open_to.any():
        return False
    rows, columns = linear_sum_assignment(np.where(open_to, costs - waited_s[:, None] - costs.min(), _CANNOT_S))
    bound = False
    for row, place in zip(rows, columns, strict=True):
        if open_to[row, place]:
            bind(world, view, _RULE, int(stages[row]), int(place))
            bound = True
    return bound
