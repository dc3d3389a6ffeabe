"""Which choices does one wave have? The stages at the head of the queue, and the places that are worth considering.

A *column* is one way of placing one stage: a place, or several as shards. Each stage lists its few cheapest columns
and the one that a linear assignment over all stages and places gives it: by their own costs alone all stages would
list the same few places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_fate.planner.compose import DEFER_PRICE
from airflow_fate.planner.outlook import Floats, Offers, Outlook
from airflow_fate.planner.problem import Problem
from airflow_fate.planner.queue import Queued
from airflow_fate.planner.shards import best_split

CHEAPEST = 4
_MOST_STAGES = 400
_STAGES_PER_SLOT = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One way of placing a stage.

    :param stage: index of the stage in the wave.
    :param shares: (index of the place, prompts).
    :param price_s: seconds until the stage ends, without loads and without what evictions cost others.
    :param lane_s: seconds of prefill on its (first) place.
    """

    stage: int
    shares: tuple[tuple[int, int], ...]
    price_s: float
    lane_s: float


@dataclass(frozen=True)
class Wave:
    """One round of placements, for all places at once.

    :param columns: sorted by stage, a stage's cheapest first.
    :param own_price_s: of each column, with its own load and its evictions, as if it were alone.
    :param defer_s: price of leaving each stage for a later wave.
    :param capacity: sequences that each place takes in this wave.
    :param load_s: (place, model) -> price of a load, where a column needs one.
    """

    stages: tuple[Queued, ...]
    columns: tuple[Column, ...]
    own_price_s: tuple[float, ...]
    defer_s: tuple[float, ...]
    capacity: tuple[int, ...]
    load_s: dict[tuple[int, str], float]

    def model(self, column: Column) -> str:
        return self.stages[column.stage].demand.model

    @property
    def is_plain_assignment(self) -> bool:
        """Whether every place takes at most one stage and nothing else binds stages to each other."""
        return all(len(column.shares) == 1 for column in self.columns) and max(self.capacity, default=0) <= 1


def build_wave(problem: Problem, outlook: Outlook) -> Wave:
    until_s = problem.now + problem.config.horizon_s
    capacity = outlook.first_turn(until_s)
    stages = problem.queue[: min(_MOST_STAGES, _STAGES_PER_SLOT * sum(capacity))]
    offers = [outlook.offers(queued.demand, queued.demand.prompts) for queued in stages]
    own = np.array(
        [_own_price_s(queued, offer, problem, until_s) for queued, offer in zip(stages, offers, strict=True)]
    )
    own = own.reshape(len(stages), len(outlook.places))
    listed = _listed(own, capacity)
    columns: list[tuple[float, Column]] = []
    load_s: dict[tuple[int, str], float] = {}
    for number, (queued, offer) in enumerate(zip(stages, offers, strict=True)):
        model = queued.demand.model
        for at in listed[number]:
            once_s = 0.0
            if not outlook.is_resident(at, model):
                once_s = float(offer.load_s[at])
                load_s[at, model] = once_s
            price_s = float(offer.finish_s[at]) - problem.now - once_s
            shares = ((at, queued.demand.prompts),)
            columns.append((float(own[number, at]), Column(number, shares, price_s, float(offer.prefill_s[at]))))
        columns.extend(_split(number, queued, offer, problem, outlook))
    columns.sort(key=lambda entry: (entry[1].stage, entry[0], entry[1].shares))
    best = own.min(axis=1, initial=np.inf)
    latest_s = problem.config.horizon_s
    return Wave(
        stages=tuple(stages),
        columns=tuple(column for _, column in columns),
        own_price_s=tuple(price_s for price_s, _ in columns),
        defer_s=tuple(float(min(price, latest_s)) + DEFER_PRICE * problem.mean_stage_s for price in best),
        capacity=capacity,
        load_s=load_s,
    )


def _own_price_s(queued: Queued, offer: Offers, problem: Problem, until_s: float) -> Floats:
    price: Floats = np.where(offer.start_s <= until_s, offer.finish_s - problem.now + offer.future_s, np.inf)
    return price


def _listed(own: Floats, capacity: tuple[int, ...]) -> list[list[int]]:
    """The places that each stage lists: its cheapest ones and the one of a linear assignment over all."""
    cheapest = np.argsort(own, axis=1, kind="stable")[:, :CHEAPEST]
    listed = [{int(at) for at in row if np.isfinite(own[number, at])} for number, row in enumerate(cheapest)]
    slots = np.repeat(np.arange(len(capacity)), capacity)
    if len(own) and len(slots):
        never = 1e6
        rows, chosen = linear_sum_assignment(np.where(np.isfinite(own), own, never)[:, slots])
        for number, slot in zip(rows, chosen, strict=True):
            if np.isfinite(own[number, slots[slot]]):
                listed[number].add(int(slots[slot]))
    return [sorted(places) for places in listed]


def _split(
    number: int, queued: Queued, offer: Offers, problem: Problem, outlook: Outlook
) -> list[tuple[float, Column]]:
    demand = queued.demand
    if not problem.shards or demand.max_shards < 2 or demand.prompts < 2 or queued.avoid:
        return []
    here = np.array([outlook.is_resident(at, demand.model) for at in range(len(outlook.places))], dtype=np.bool_)
    found = best_split(demand, outlook, here & (offer.start_s <= problem.now))
    if found is None:
        return []
    price_s = found.score_s - problem.now
    return [(price_s, Column(number, tuple(found.shares), price_s, 0.0))]
