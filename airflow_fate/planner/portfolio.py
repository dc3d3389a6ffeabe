"""Which ways of going on are worth playing? Rules to begin with, a portfolio of unlike ones, and their neighbours.

Chosen by playing some hundreds of random rules over loads, fleets and seeds: no rule is best everywhere, and a handful
of unlike ones is nearly as good as all of them together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from airflow_fate.planner.lists.rule import FUTURE_NEED, Rule, rule

_BASE: dict[str, float] = {
    "reserve": 1,
    "backfill": 1,
    "depth": 1.0,
    "waits": 1,
    "eviction": FUTURE_NEED,
    "follows": 1,
    "spend": 0.5,
    "linger": 0.25,
    "cede": 1.0,
    "overlap": 2.0,
    "foresight": 2.0,
}

LIGHT: dict[str, Any] = {"shards": 0.5, "prefetch": 0.3}
"""What pays while little waits; both are gated by the backlog. A playout sees only what has arrived, to which both look
cheap; whatever comes next then finds the places taken. So they are for later, when more has ended than is under way: at
the first moments of ``high-groups`` they cost a fifth of the mean latency."""

_GREEDY: dict[str, dict[str, float]] = {
    "makespan": {"by_rank": 1, "harm": 2, "rush": 0.5},
    "mean": {"by_work": 2, "by_arrival": 0.5, "by_slack": 1, "harm": 4, "spend": 1, "rush": 1.5, "keep": 0.5},
    "p95": {"by_arrival": 1, "by_rank": 0.5, "harm": 1, "rush": 0.5, "keep": 0.5, "crowd": 0.5},
    "balanced": {"by_arrival": 1, "by_slack": 1, "harm": 2, "rush": 0.5, "keep": 0.5},
}
GREEDY: dict[str, Rule] = {objective: rule(**(_BASE | fields)) for objective, fields in _GREEDY.items()}
"""Objective -> the incumbent before anything was played: the longest chains first, the least work first, or the oldest
first, with chains for what is left."""

DISPATCH = rule(by_ready=1)
"""What is left with all parts off: first come first served to the free place where it ends first."""

_ORDERS: tuple[dict[str, float], ...] = (
    {"by_rank": 1},
    {"by_arrival": 1, "by_rank": 0.25, "by_slack": 1},
    {"by_work": 2, "by_slack": 1},
    {"by_arrival": 1, "by_rank": 0.5, "by_work": 0.12},
    {"by_arrival": 0.25, "by_rank": 1, "by_work": 0.25},
    {"by_work": 2, "by_arrival": 1},
    {"by_arrival": 1, "by_slack": 1},
    {"by_arrival": 0.5, "by_rank": 1, "by_slack": 0.5, "by_own": 0.5},
)
_MANNERS: tuple[dict[str, float], ...] = (
    {"harm": 2, "rush": 0.5},
    {"harm": 4, "spend": 1, "rush": 2, "keep": 1},
    {"harm": 1, "crowd": 1, "keep": 0.5},
    {"harm": 1, "spend": 0.3, "rush": 1},
    {"harm": 2, "spend": 1, "reach": 0.5},
)
_RULES: tuple[Rule, ...] = tuple(
    rule(**(_BASE | order | _MANNERS[(turn + number) % len(_MANNERS)]))
    for turn in range(len(_MANNERS))
    for number, order in enumerate(_ORDERS)
)
"""Every order of the frontier with every manner of placing, neighbours unlike each other."""

_OVERLAPS = (0.0, 2.0, 0.5, 2.0, 2.0)
_LONGEST_FIRST = tuple(
    one._replace(overlap=_OVERLAPS[number % len(_OVERLAPS)])
    for number, one in enumerate(one for one in _RULES if one.by_rank >= 1.0)
)
"""For the last end the longest chains go first: putting them off looks good in a playout as long as much of the work is
still to arrive, and is not. Where seats are many and prefill lanes scarce, a stage that is bound before its seats are
free takes the lane from one that could decode at once; so some of these bind late, or not ahead at all."""

PORTFOLIO: dict[str, tuple[Rule, ...]] = {**dict.fromkeys(GREEDY, _RULES), "makespan": _LONGEST_FIRST}
"""Objective -> rules worth playing."""

STEPS: dict[str, tuple[float, ...]] = {
    "depth": (0.25, 1.0, 2.0),
    "harm": (0.5, 1.0, 2.0, 4.0),
    "reach": (0.0, 0.5, 1.0),
    "crowd": (0.0, 0.5, 1.0),
    "spend": (0.25, 0.5, 1.0, 2.0),
    "rush": (0.0, 0.5, 1.0, 2.0),
    "keep": (0.0, 0.5, 1.0),
    "linger": (0.0, 0.25, 0.5, 1.0),
    "cede": (0.0, 0.5, 1.0, 2.0),
    "overlap": (0.0, 0.5, 2.0, 6.0),
    "foresight": (0.0, 0.5, 2.0, 6.0),
}
"""Values that a perturbation may give to a field."""

SHIFTED = ("by_arrival", "by_rank", "by_work", "by_slack", "by_own", "by_ready")
SHIFT = 0.6
"""By how much a perturbation moves one of these, as a standard deviation."""


def neighbour(one: Rule, rng: np.random.Generator) -> Rule:
    """The rule with one of its numbers changed."""
    names = (*SHIFTED, *STEPS)
    name = names[int(rng.integers(len(names)))]
    changed: dict[str, Any]
    if name in STEPS:
        changed = {name: float(rng.choice(STEPS[name]))}
    else:
        changed = {name: max(0.0, getattr(one, name) + float(rng.normal(0.0, SHIFT)))}
    return one._replace(**changed)
