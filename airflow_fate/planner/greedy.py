"""Who runs where, decided stage by stage? A list policy over busy places too.

The most urgent stage takes the place where it ends first, given all that was placed before it (earliest finish time,
as in HEFT), plus what its choice costs those who come after. Where that place is busy, the stage reserves its turn
there and is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from airflow_fate.planner.choice import Choice, Left, Rival
from airflow_fate.planner.outlook import Bools, Offers, Outlook
from airflow_fate.planner.plan import Share
from airflow_fate.planner.problem import Problem
from airflow_fate.planner.queue import Queued
from airflow_fate.planner.shards import split
from airflow_fate.workflow import StageRef

_STAGES_PER_TURN = 2
"""Stages that are looked at for every turn within the horizon; those behind them cannot matter yet."""

_FEWEST_HELD = 64
"""Turns on busy places that are reserved at least; with one for each place, only who can start now is looked at."""

_SHORTEST_TURN_S = 0.1
_MOST_WAITING = 4.0
"""Stages per place whose delay by a needless prefill counts; beyond them, the plan will have changed."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Every stage of the queue, as a choice or as left behind, each in the order in which it was decided."""

    choices: tuple[Choice, ...]
    left: tuple[Left, ...]


def place_all(problem: Problem, outlook: Outlook, bound: Mapping[StageRef, tuple[str, ...]] | None = None) -> Decided:
    """Place the queue in its order.

    :param bound: places that were chosen elsewhere, for some of the stages; several are shards.
    """
    bound, config = bound or {}, problem.config
    choices: dict[StageRef, Choice] = {}
    left: list[tuple[Queued, int]] = []
    held, most_held = 0, max(_FEWEST_HELD, len(outlook.places))
    until_s = problem.now + config.horizon_s
    turn_s = max(_SHORTEST_TURN_S, problem.mean_stage_s)
    models = {queued.demand.model for queued in problem.queue}
    turns = {model: _STAGES_PER_TURN * outlook.turns_within(model, until_s, turn_s) for model in models}
    for behind, queued in enumerate(problem.queue):
        model = queued.demand.model
        choice = None
        if turns[model] > 0 and (held < most_held or outlook.earliest_start_s(model) <= problem.now):
            waiting = (len(problem.queue) - 1 - behind) / max(1, len(outlook.places))
            copy_price = config.copy_weight * min(_MOST_WAITING, waiting)
            choice = _choose(queued, outlook, until_s, copy_price, problem.shards, bound.get(queued.ref, ()))
        if choice is None:
            left.append((queued, behind))
            if turns[model] > 0 and outlook.earliest_start_s(model) > until_s:
                turns[model] = 0
        else:
            turns[model] -= 1
            held += choice.start_s > problem.now
            choices[queued.ref] = choice
    _use_idle_places(choices, outlook)
    free_s = {model: outlook.earliest_start_s(model) for model in sorted(models)}
    behind_all = (Left(queued, behind, free_s[queued.demand.model]) for queued, behind in left)
    return Decided(tuple(choices.values()), tuple(behind_all))


def _choose(
    queued: Queued, outlook: Outlook, until_s: float, copy_price: float, shards: bool, only: tuple[str, ...]
) -> Choice | None:
    demand = queued.demand
    offers = outlook.offers(demand, demand.prompts, copy_price)
    open_to = offers.start_s <= until_s
    if queued.avoid:
        open_to &= _not_avoided(queued, outlook)
    if only and (preferred := open_to & [place in only for place in outlook.places]).any():
        open_to = preferred
    score = np.where(open_to, offers.finish_s + offers.future_s, np.inf)
    if not score.size:
        return None
    at = int(score.argmin())
    if score[at] == np.inf:
        return None
    if shards and demand.max_shards > 1 and demand.prompts > 1 and len(only) != 1:
        choice = split(queued, outlook, open_to & (offers.start_s <= outlook.now), float(score[at]))
        if choice is not None:
            return choice
    return _take(queued, outlook, offers, at, _rival(outlook, offers, at))


def _take(queued: Queued, outlook: Outlook, offers: Offers, at: int, rival: Rival | None) -> Choice:
    demand = queued.demand
    resident = outlook.is_resident(at, demand.model)
    choice = Choice(
        queued=queued,
        shares=(Share(outlook.places[at], demand.prompts, offers.parts(at)),),
        start_s=max(outlook.now, float(offers.start_s[at])),
        finish_s=float(offers.finish_s[at]),
        evict=() if resident else outlook.evictions(at, demand.model),
        future_s=float(offers.future_s[at]),
        cached_tokens=int(offers.cached_tokens[at]),
        resident=resident,
        rival=rival,
    )
    outlook.reserve(demand, demand.prompts, at, offers)
    return choice


def _not_avoided(queued: Queued, outlook: Outlook) -> Bools:
    """Places on which no earlier try failed; all places when no other can serve the stage."""
    fresh = np.array([place not in queued.avoid for place in outlook.places], dtype=np.bool_)
    return fresh if (fresh & outlook.can_serve(queued.demand.model)).any() else np.ones_like(fresh)


def _rival(outlook: Outlook, offers: Offers, at: int) -> Rival | None:
    others = np.where(np.isfinite(offers.start_s), offers.finish_s + offers.future_s, np.inf)
    others[at] = np.inf
    second = int(others.argmin())
    if others[second] == np.inf:
        return None
    return Rival(outlook.places[second], float(offers.finish_s[second] - offers.finish_s[at]))


def _use_idle_places(choices: dict[StageRef, Choice], outlook: Outlook) -> None:
    """Give a place that nobody wanted to a waiting stage that ends earlier there.

    A stage was held beside free places because computing its prefix once more would have taken their time from others;
    where no other stage took that time, it is free.
    """
    free_s: dict[str, float] = {}
    for ref, choice in choices.items():
        demand = choice.queued.demand
        if choice.start_s > outlook.now and demand.model not in free_s:
            free_s[demand.model] = outlook.earliest_start_s(demand.model)
        if choice.start_s <= outlook.now or free_s[demand.model] > outlook.now:
            continue
        offers = outlook.offers(demand, demand.prompts)
        open_to = offers.start_s <= outlook.now
        if choice.queued.avoid:
            open_to &= _not_avoided(choice.queued, outlook)
        finish = np.where(open_to, offers.finish_s + offers.future_s, np.inf)
        at = int(finish.argmin())
        if finish[at] < choice.finish_s:
            rival = Rival(choice.place, choice.finish_s - float(offers.finish_s[at]))
            choices[ref] = _take(choice.queued, outlook, offers, at, rival)
            free_s.clear()
