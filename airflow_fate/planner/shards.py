"""Would a batch end earlier if its prompts were split over several places?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from airflow_fate.physics import Demand
from airflow_fate.physics.costs import sync_s
from airflow_fate.planner.choice import Choice, Rival
from airflow_fate.planner.outlook import Bools, Outlook
from airflow_fate.planner.plan import Share
from airflow_fate.planner.queue import Queued


def split(queued: Queued, outlook: Outlook, free: Bools, single_s: float) -> Choice | None:
    """Place the stage on the split that ends first, if it beats ``single_s``, the score of the best single place."""
    found = best_split(queued.demand, outlook, free)
    if found is None or found.score_s >= single_s:
        return None
    return _reserve(queued, outlook, found.shares, single_s)


@dataclass(frozen=True, slots=True)
class Split:
    """(index of the place, prompts) per shard, and when the last one ends, with what that costs others."""

    shares: list[tuple[int, int]]
    score_s: float


def best_split(demand: Demand, outlook: Outlook, free: Bools) -> Split | None:
    """The split that ends first. Shards run on places that are free now: a stage that is split waits for nobody."""
    one, two = outlook.offers(demand, 1), outlook.offers(demand, 2)
    candidates = [int(at) for at in np.argsort(one.finish_s, kind="stable") if free[at]]
    chosen = _disjoint(outlook, candidates, demand.max_shards)
    best: Split | None = None
    for count in range(2, len(chosen) + 1):
        counts = _fill(
            [float(one.finish_s[at]) for at in chosen[:count]],
            [float(two.finish_s[at] - one.finish_s[at]) for at in chosen[:count]],
            [outlook.free_seats(at) for at in chosen[:count]],
            demand.prompts,
        )
        if counts is None or 0 in counts:
            continue
        shares = list(zip(chosen[:count], counts, strict=True))
        ends = max(float(one.finish_s[at] + (n - 1) * (two.finish_s[at] - one.finish_s[at])) for at, n in shares)
        harm_s = float(sum(one.future_s[at] for at, _ in shares))
        if best is None or ends + harm_s < best.score_s:
            best = Split(shares, ends + harm_s)
    return best


def _disjoint(outlook: Outlook, candidates: list[int], limit: int) -> list[int]:
    """The first places that share no device with each other."""
    fleet, used, chosen = outlook.state.fleet, set[str](), list[int]()
    for at in candidates:
        devices = {device.id for device in fleet.members(outlook.places[at])}
        if len(chosen) < limit and not devices & used:
            chosen.append(at)
            used |= devices
    return chosen


def _fill(first_s: list[float], further_s: list[float], room: list[int], prompts: int) -> list[int] | None:
    """Prompts per place, each given to the place that would end first with it; None when they do not all fit."""
    counts = [0] * len(first_s)
    for _ in range(prompts):
        ends = [(first_s[i] + counts[i] * further_s[i], i) for i in range(len(counts)) if counts[i] < room[i]]
        if not ends:
            return None
        counts[min(ends)[1]] += 1
    return counts


def _reserve(queued: Queued, outlook: Outlook, shares: list[tuple[int, int]], single_s: float) -> Choice:
    demand = queued.demand
    offers = [outlook.offers(demand, prompts) for _, prompts in shares]
    ends = [float(offer.finish_s[at]) for offer, (at, _) in zip(offers, shares, strict=True)]
    first = shares[0][0]
    choice = Choice(
        queued=queued,
        shares=tuple(
            Share(outlook.places[at], prompts, replace(offer.parts(at), sync_s=sync_s(end, max(ends))))
            for offer, end, (at, prompts) in zip(offers, ends, shares, strict=True)
        ),
        start_s=outlook.now,
        finish_s=max(ends),
        evict=tuple(
            pair
            for at, _ in shares
            if not outlook.is_resident(at, demand.model)
            for pair in outlook.evictions(at, demand.model)
        ),
        future_s=sum(float(offer.future_s[at]) for offer, (at, _) in zip(offers, shares, strict=True)),
        cached_tokens=int(offers[0].cached_tokens[first]),
        resident=outlook.is_resident(first, demand.model),
        rival=Rival("any single place", single_s - max(ends)),
    )
    for offer, (at, prompts) in zip(offers, shares, strict=True):
        outlook.reserve(demand, prompts, at, offer)
    return choice
