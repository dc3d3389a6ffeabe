"""Which way of going on is best? Candidates are played forward through all known work; the winner is kept for a while.

Receding horizon: every few moments the world is copied as far as it is known, each candidate rule is played on the
copy to its end, and the one with the best score goes on in the real one. The candidates are a portfolio of list
policies, the incumbent, and perturbations of the best so far. The greedy rule is always among them, so that under the
estimates nothing worse is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from airflow_fate.physics.kernel.engine import advance
from airflow_fate.physics.kernel.estimated import as_expected
from airflow_fate.physics.kernel.world import CHANGING, STEPS, World, copy
from airflow_fate.planner.lists.decide import decide
from airflow_fate.planner.lists.play import play
from airflow_fate.planner.lists.rule import FUTURE_NEED, LEAST_RECENT, Rule, rule
from airflow_fate.planner.lists.view import make_view

_BASE = {"horizon_s": 8.0, "reserve": 1, "eviction": FUTURE_NEED, "harm": 1.0, "spend": 0.5}
_AHEAD = _BASE | {"shards": 0.5, "prefetch": 0.3}

GREEDY = rule(by_arrival=1, by_slack=1, **_BASE)
"""The incumbent before anything was played: old workflows first, in them what has least slack."""

DISPATCH = rule(by_ready=1)
"""What is left with all parts off: first come first served to the free place where it ends first."""

PORTFOLIO: tuple[Rule, ...] = (
    rule(by_arrival=1, by_rank=1, **_BASE),
    rule(by_work=1, **_BASE),
    rule(by_arrival=1, by_work=0.5, **_BASE),
    rule(by_arrival=1, by_slack=1, **_AHEAD),
    rule(by_rank=1, **_BASE),
    rule(by_arrival=1, by_slack=1, **(_BASE | {"horizon_s": 30.0})),
    rule(by_arrival=1, by_rank=1, **_AHEAD),
    rule(by_work=1, **_AHEAD),
    rule(by_arrival=1, by_slack=1, **(_BASE | {"horizon_s": 2.0})),
    rule(by_arrival=1, by_rank=1, **(_BASE | {"horizon_s": 30.0})),
    rule(by_work=1, by_slack=1, **(_BASE | {"horizon_s": 4.0})),
    rule(by_arrival=1, by_slack=1, reach=0.5, crowd=0.5, **_BASE),
    rule(by_arrival=1, by_rank=1, **(_BASE | {"spend": 2.0, "harm": 2.0})),
    rule(by_rank=1, **(_BASE | {"horizon_s": 60.0})),
)

_STEPS: dict[str, tuple[float, ...]] = {
    "horizon_s": (0.0, 2.0, 5.0, 10.0, 30.0, 90.0),
    "shards": (0.0, 0.3, 0.6, 1.0, 2.0),
    "prefetch": (0.0, 0.3, 0.6, 1.0, 2.0),
    "harm": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
    "reach": (0.0, 0.25, 0.5, 1.0, 2.0),
    "crowd": (0.0, 0.25, 0.5, 1.0, 2.0),
    "spend": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
}
"""Values that a perturbation may give to a field."""

_SHIFTED = ("by_arrival", "by_rank", "by_work", "by_slack", "by_own", "by_ready")
_SHIFT = 0.6
_TAIL_ORDER = 4.0
_MOMENTS = 100
"""So many are played between two looks at the clock."""

OBJECTIVES: dict[str, tuple[float, float, float]] = {
    "makespan": (1.0, 0.3, 0.0),
    "mean": (0.02, 1.0, 0.0),
    "p95": (0.02, 0.2, 1.0),
    "balanced": (0.4, 0.3, 0.3),
}
"""Weights of the last end, of the mean latency and of the tail. The tail is the generalized mean of fourth order: the
95th percentile itself is one workflow's latency, and a search finds ways to improve that one at the cost of the
rest."""

PARTS = (
    "holding",
    "playouts",
    "shards",
    "prefetch",
    "eviction",
    "horizon",
    "residency",
    "locality",
    "prefix",
    "reachability",
)
"""What can be switched off (0) or, for shards and horizon, bounded."""


@dataclass(frozen=True)
class Settings:
    """How to search.

    :param every: moments between two searches.
    :param tries: candidates beside the incumbent.
    :param levels: unfinished stages that may lie before a stage for a playout to see it.
    :param fixed: fields of every rule, where a part is off.
    """

    objective: str = "balanced"
    seed: int = 0
    every: int = 40
    tries: int = 16
    levels: int = STEPS
    greedy: Rule = GREEDY
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def switched(self, options: Mapping[str, float]) -> Settings:
        """With some parts off or bounded.

        :raises ValueError: naming an unknown part, and the known ones.
        """
        unknown = sorted(set(options) - set(PARTS) - {"tries", "every"})
        if unknown:
            raise ValueError(f"FATE has no part {', '.join(unknown)}; it has {', '.join(PARTS)}")
        fixed: dict[str, Any] = {}
        if not options.get("holding", 1):
            fixed |= {"horizon_s": 0.0, "reserve": 0}
        if not options.get("eviction", 1):
            fixed |= {"eviction": LEAST_RECENT, "harm": 0.0}
        if not options.get("prefetch", 1):
            fixed |= {"prefetch": 0.0}
        if "shards" in options:
            fixed |= {"most_shards": int(options["shards"])}
        for part, name in (("residency", "sees_loads"), ("locality", "sees_transfers"), ("prefix", "sees_prefixes")):
            if not options.get(part, 1):
                fixed |= {name: 0}
        if not options.get("reachability", 1):
            fixed |= {"reach": 0.0, "crowd": 0.0, "spend": 0.0}
        off = all(not options.get(part, 1) for part in PARTS)
        return replace(
            self,
            every=int(options.get("every", self.every)),
            tries=int(options.get("tries", self.tries)) if options.get("playouts", 1) else 0,
            levels=int(options.get("horizon", self.levels)),
            greedy=DISPATCH if off else self.greedy,
            fixed={} if off else fixed,
        )


def score(world: World, objective: str) -> float:
    """Seconds, of what has arrived, to be as few as possible."""
    last, mean, tail = OBJECTIVES[objective]
    flows = world.workflows
    ended = flows["done_s"] >= 0.0
    if not ended.any():
        return 0.0
    done_s, weight = flows["done_s"][ended], flows["weight"][ended]
    latency_s = done_s - flows["arrival_s"][ended]
    value = last * float(done_s.max()) + mean * float(np.average(latency_s, weights=weight))
    if tail:
        value += tail * float(np.average(latency_s**_TAIL_ORDER, weights=weight) ** (1.0 / _TAIL_ORDER))
    return value


class Search:
    """The incumbent rule for one world, and the scratch memory to look for better ones."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        self.greedy = self.fixed(settings.greedy)
        self.incumbent = self.greedy
        self.portfolio = tuple(dict.fromkeys(self.fixed(one) for one in PORTFOLIO))
        self.turn = 0
        self.scratch = copy(world)
        self.view = make_view(world)

    def drive(self, world: World, clock: Callable[[], float]) -> list[float]:
        """Play the world to its end, searching every few moments; seconds of each plan."""
        view = make_view(world)
        seconds: list[float] = []
        moments = self.settings.every
        while advance(world):
            begin = clock()
            moments += 1
            if moments >= self.settings.every and world.tally[0].ready > 0 and self.settings.tries:
                self.improve(world)
                moments = 0
            decide(world, view, self.incumbent)
            seconds.append(clock() - begin)
        return seconds

    def improve(self, world: World, is_late: Callable[[], bool] = lambda: False) -> None:
        """Look for a better way to go on than the incumbent's.

        :param is_late: whether it is time to stop; what was not played to its end by then counts for nothing.
        """
        known = copy(world)
        as_expected(known, self.settings.levels)
        best, least = self.incumbent, self.played(known, self.incumbent, is_late)
        for attempt in range(self.settings.tries):
            if is_late():
                break
            candidate = self.candidate(attempt, best)
            value = self.played(known, candidate, is_late)
            if value < least:
                best, least = candidate, value
        self.incumbent = best

    def candidate(self, attempt: int, best: Rule) -> Rule:
        """The greedy rule first, then as many of the portfolio, in turns, as perturbations of the best so far."""
        if attempt == 0:
            return self.greedy
        if attempt < self.settings.tries // 2:
            self.turn += 1
            return self.portfolio[self.turn % len(self.portfolio)]
        return self.fixed(self.perturbed(best))

    def perturbed(self, one: Rule) -> Rule:
        names = (*_SHIFTED, *_STEPS)
        name = names[int(self.rng.integers(len(names)))]
        if name in _STEPS:
            changed: dict[str, Any] = {name: float(self.rng.choice(_STEPS[name]))}
        else:
            changed = {name: max(0.0, getattr(one, name) + float(self.rng.normal(0.0, _SHIFT)))}
        return one._replace(**changed)

    def fixed(self, one: Rule) -> Rule:
        return one._replace(**self.settings.fixed)

    def played(self, known: World, candidate: Rule, is_late: Callable[[], bool] = lambda: False) -> float:
        """The score of going on with the candidate to the end of all known work; infinite where it got too late."""
        for name in CHANGING:
            np.copyto(getattr(self.scratch, name), getattr(known, name))
        decide(self.scratch, self.view, candidate)
        while play(self.scratch, self.view, candidate, _MOMENTS) == _MOMENTS:
            if is_late():
                return float("inf")
        return score(self.scratch, self.settings.objective)
