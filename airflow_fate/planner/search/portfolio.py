"""Which ways of going on are worth rolling out? Rules to begin with, a portfolio of unlike ones, and their neighbours.

Chosen by rolling out some hundreds of random rules over loads, fleets and seeds: no rule is best everywhere, and a
handful of unlike ones is nearly as good as all of them together.
"""

from __future__ import annotations

import numpy as np

from airflow_fate.planner.dispatch.rule import Rule, changed, make_rule, numbers_of
from airflow_fate.planner.forecast.sight import FUTURE_NEED

_BASE: dict[str, float] = {
    "reserve": 1,
    "backfill": 1,
    "depth": 1.0,
    "waits": 1,
    "evict_by": FUTURE_NEED,
    "sees_arriving": 1,
    "prefill": 0.5,
    "busy_period": 0.25,
    "yielding": 1.0,
    "overlap": 2.0,
    "lookahead": 2.0,
}

LIGHT: dict[str, float] = {"shards": 0.5, "prefetch": 0.3}
"""What pays while little waits; both are gated by the backlog. A rollout sees only what has arrived, to which both look
cheap; whatever comes next then finds the places taken. So they are for later, when more has ended than is under way: at
the first epochs of ``high-groups`` they cost a fifth of the mean latency."""

_GREEDY: dict[str, dict[str, float]] = {
    "makespan": {"by_rank": 1, "reload": 2, "recompute": 0.5},
    "mean": {
        "by_work": 2,
        "by_arrival": 0.5,
        "by_slack": 1,
        "reload": 4,
        "prefill": 1,
        "recompute": 1.5,
        "lost_prefixes": 0.5,
    },
    "p95": {"by_arrival": 1, "by_rank": 0.5, "reload": 1, "recompute": 0.5, "lost_prefixes": 0.5, "interference": 0.5},
    "balanced": {"by_arrival": 1, "by_slack": 1, "reload": 2, "recompute": 0.5, "lost_prefixes": 0.5},
}
GREEDY: dict[str, Rule] = {objective: make_rule(**(_BASE | fields)) for objective, fields in _GREEDY.items()}
"""Objective -> the incumbent before anything was rolled out: the longest chains first, the least work first, or the
oldest first, with chains for what is left."""

DISPATCH = make_rule(by_ready=1)
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
    {"reload": 2, "recompute": 0.5},
    {"reload": 4, "prefill": 1, "recompute": 2, "lost_prefixes": 1},
    {"reload": 1, "interference": 1, "lost_prefixes": 0.5},
    {"reload": 1, "prefill": 0.3, "recompute": 1},
    {"reload": 2, "prefill": 1, "contention": 0.5},
)
_RULES: tuple[Rule, ...] = tuple(
    make_rule(**(_BASE | order | _MANNERS[(shift + number) % len(_MANNERS)]))
    for shift in range(len(_MANNERS))
    for number, order in enumerate(_ORDERS)
)
"""Every order of the frontier with every manner of placing, neighbours unlike each other."""

_OVERLAPS = (0.0, 2.0, 0.5, 2.0, 2.0)
_LONGEST_FIRST = tuple(
    changed(rule, overlap=_OVERLAPS[number % len(_OVERLAPS)])
    for number, rule in enumerate(rule for rule in _RULES if rule.order.by_rank >= 1.0)
)
"""For the last end the longest chains go first: putting them off looks good in a rollout as long as much of the work is
still to arrive, and is not. Where sequence slots are many and prefill slots scarce, a stage that is bound before its
slots are free takes the prefill slot from one that could decode at once; so some of these bind late, or not ahead at
all."""

PORTFOLIO: dict[str, tuple[Rule, ...]] = {**dict.fromkeys(GREEDY, _RULES), "makespan": _LONGEST_FIRST}
"""Objective -> rules worth rolling out."""

STEPS: dict[str, tuple[float, ...]] = {
    "depth": (0.25, 1.0, 2.0),
    "reload": (0.5, 1.0, 2.0, 4.0),
    "contention": (0.0, 0.5, 1.0),
    "interference": (0.0, 0.5, 1.0),
    "prefill": (0.25, 0.5, 1.0, 2.0),
    "recompute": (0.0, 0.5, 1.0, 2.0),
    "lost_prefixes": (0.0, 0.5, 1.0),
    "busy_period": (0.0, 0.25, 0.5, 1.0),
    "yielding": (0.0, 0.5, 1.0, 2.0),
    "overlap": (0.0, 0.5, 2.0, 6.0),
    "lookahead": (0.0, 0.5, 2.0, 6.0),
}
"""Values that a perturbation may give to a field."""

SHIFTED = ("by_arrival", "by_rank", "by_work", "by_slack", "by_own", "by_ready")
SHIFT = 0.6
"""By how much a perturbation moves one of these, as a standard deviation."""


def neighbour(rule: Rule, rng: np.random.Generator) -> Rule:
    """The rule with one of its numbers changed."""
    names = (*SHIFTED, *STEPS)
    name = names[int(rng.integers(len(names)))]
    if name in STEPS:
        return changed(rule, **{name: float(rng.choice(STEPS[name]))})
    return changed(rule, **{name: max(0.0, numbers_of(rule)[name] + float(rng.normal(0.0, SHIFT)))})
