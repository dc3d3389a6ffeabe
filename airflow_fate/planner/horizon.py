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
from numpy.typing import NDArray

from airflow_fate.physics.kernel.engine import advance
from airflow_fate.physics.kernel.estimated import as_expected
from airflow_fate.physics.kernel.world import CHANGING, STEPS, World, copy
from airflow_fate.planner.correction import Correction
from airflow_fate.planner.cpsat import Chosen, apply_wave, improve_wave
from airflow_fate.planner.cpsat.solve import Limit
from airflow_fate.planner.lists.decide import decide
from airflow_fate.planner.lists.play import play
from airflow_fate.planner.lists.rule import LEAST_RECENT, Rule
from airflow_fate.planner.lists.view import View, make_view
from airflow_fate.planner.portfolio import DISPATCH, GREEDY, LIGHT, PORTFOLIO, neighbour

_TAIL_ORDER = 8.0
_MARGIN = 0.02
"""By so much of the score another rule must look better, and by as much again for each unit by which the logarithm of
outputs over their expectation spreads. Smaller differences are chance, and what is still to come is not seen."""
_FEW = 20
"""So few stages left are searched for at any news."""
_NEWS = 0.4
"""Of the stages known and not done, beyond those few, so many must have arrived or ended before the next search."""
_TRIES, _MOST_TRIES = 6, 200
_PLAYED = 1000
"""A search plays so many stages at least, within the most tries: of few that are left, a playout costs nothing."""
_SOLVE_WALL_S = 5.0
"""A wave that takes so long is given up; the deterministic limit ends it long before."""
_MOMENTS = 100
"""So many are played between two looks at the clock."""

OBJECTIVES: dict[str, tuple[float, float, float]] = {
    "makespan": (1.0, 0.02, 0.0),
    "mean": (0.02, 1.0, 0.0),
    "p95": (0.02, 0.2, 1.0),
    "balanced": (0.4, 0.3, 0.3),
}
"""Weights of the last end, of the mean latency and of the tail. The tail is the generalized mean of eighth order: the
95th percentile itself is one workflow's latency, and a search finds ways to improve that one at the cost of the
rest."""

PARTS = (
    "holding",
    "overlap",
    "foresight",
    "playouts",
    "shards",
    "prefetch",
    "eviction",
    "horizon",
    "residency",
    "locality",
    "prefix",
    "reachability",
    "estimates",
    "cpsat",
)
"""What can be switched off (0) or, for shards and horizon, bounded."""


@dataclass(frozen=True)
class Settings:
    """How to search.

    :param every: moments that lie between two searches at least, where as many stages are known beyond a few; else as
        many as those.
    :param tries: candidates beside the incumbent; None for as many as what is left allows.
    :param levels: unfinished stages that may lie before a stage for a playout to see it.
    :param correct: whether estimates of outputs are corrected by what came of those before.
    :param solve_s: deterministic time of CP-SAT for a wave in each search; 0 for none.
    :param greedy: the incumbent at the beginning; the objective's, if none is named.
    :param fixed: fields of every rule, where a part is off.
    """

    objective: str = "balanced"
    seed: int = 0
    every: int = 40
    tries: int | None = None
    levels: int = STEPS
    correct: bool = True
    solve_s: float = 0.05
    greedy: Rule | None = None
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
            fixed |= {"waits": 0, "reserve": 0, "backfill": 0, "foresight": 0.0}
        if not options.get("overlap", 1):
            fixed |= {"overlap": 0.0}
        if not options.get("foresight", 1):
            fixed |= {"foresight": 0.0}
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
            fixed |= {"reach": 0.0, "crowd": 0.0, "spend": 0.0, "linger": 0.0, "cede": 0.0}
        off = all(not options.get(part, 1) for part in PARTS)
        return replace(
            self,
            every=int(options.get("every", self.every)),
            tries=(int(options["tries"]) if "tries" in options else self.tries) if options.get("playouts", 1) else 0,
            levels=int(options.get("horizon", self.levels)),
            correct=bool(options.get("estimates", 1)),
            solve_s=self.solve_s if options.get("cpsat", 1) else 0.0,
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


def _arrived(known: World) -> NDArray[np.bool_]:
    return np.asarray(known.workflows["arrival_s"] <= known.tally[0].now)


def _is_late_day(known: World) -> bool:
    """Whether more workflows have ended than are under way."""
    ended = known.workflows["done_s"] >= 0.0
    return 2 * int(ended.sum()) > int(_arrived(known).sum())


class News:
    """How much has happened since the last search: a rule chosen for a few stages may be a bad one for those after."""

    def __init__(self, world: World) -> None:
        self._stages = np.concatenate(([0], np.cumsum(world.workflows["stages"][world.arrivals])))
        self._seen = 0
        self._moments = float("inf")

    def are_due(self, world: World, every: int) -> bool:
        """Whether a search is worth its while at this moment; if so, the next count begins."""
        self._moments += 1
        known = int(self._stages[world.tally[0].arrived])
        done = int(self._stages[-1] - world.tally[0].stages_left)
        news = known + done - self._seen
        many = known - done - _FEW
        if self._moments < min(every, many) or news < max(1.0, _NEWS * many):
            return False
        self._seen, self._moments = known + done, 0
        return True


class Search:
    """The incumbent rule for one world, and the scratch memory to look for better ones."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        self.greedy = self.fixed(settings.greedy or GREEDY[settings.objective])
        self.incumbent = self.greedy
        self.wave: Chosen | None = None
        self.portfolio = tuple(dict.fromkeys(self.fixed(one) for one in PORTFOLIO[settings.objective]))
        self.turn = 0
        self.margin = _MARGIN
        self.correction = Correction(world)
        self.scratch = copy(world)
        self.view = make_view(world)

    def drive(self, world: World, clock: Callable[[], float]) -> list[float]:
        """Play the world to its end, searching when there is news; seconds of each plan."""
        view = make_view(world)
        seconds: list[float] = []
        news = News(world)
        while advance(world):
            begin = clock()
            if world.tally[0].ready > 0 and news.are_due(world, self.settings.every):
                known = self.expected(world)
                least = self.improve(known)
                if self.settings.solve_s:
                    self.solve(known, least)
            self.proceed(world, view)
            seconds.append(clock() - begin)
        return seconds

    def proceed(self, world: World, view: View) -> None:
        """Begin the wave, where one was found for this moment; else follow the incumbent."""
        wave, self.wave = self.wave, None
        if wave is None:
            decide(world, view, self.incumbent)
        else:
            apply_wave(world, view, self.incumbent, wave)

    def expected(self, world: World) -> World:
        """How the world goes on, as far as it is known."""
        self.margin = _MARGIN * (1.0 + (self.correction.apply(world) if self.settings.correct else 0.0))
        known = copy(world)
        as_expected(known, self.settings.levels)
        return known

    def improve(self, known: World, is_late: Callable[[], bool] = lambda: False) -> float:
        """Look for a better way to go on than the incumbent's, or greedy's.

        :param is_late: whether it is time to stop; what was not played to its end by then counts for nothing.
        :returns: the score of going on with the incumbent; infinite where that was not played to its end.
        """
        tries = self._tries(known)
        if tries == 0:
            return float("inf")
        best, least = self.incumbent, self.played(known, self.incumbent, is_late)
        if self.greedy != best and (value := self.played(known, self.greedy, is_late)) < least:
            best, least = self.greedy, value
        enough, late_day = least * (1.0 - self.margin), _is_late_day(known)
        for attempt in range(tries):
            if is_late():
                break
            # As many of the portfolio, in turns, as perturbations of the best so far.
            candidate = self._next() if attempt < tries // 2 else self.fixed(neighbour(best, self.rng))
            if attempt % 2 and late_day:
                candidate = self.fixed(candidate._replace(**LIGHT))
            value = self.played(known, candidate, is_late)
            if value < min(least, enough):
                best, least = candidate, value
        self.incumbent = best
        return least

    def solve(
        self, known: World, least: float, is_late: Callable[[], bool] = lambda: False, wall_s: float = _SOLVE_WALL_S
    ) -> None:
        """Look for a wave that is a better beginning than the incumbent's; CP-SAT sees all places at once.

        :param least: the score of going on with the incumbent, as ``improve`` found it.
        """
        limit = Limit(wall_s, self.settings.solve_s, self.settings.seed)
        wave = improve_wave(known, self.view, self.incumbent, limit)
        if wave is None or is_late():
            return
        if least == float("inf"):
            least = self.played(known, self.incumbent, is_late)
        if self.played(known, self.incumbent, is_late, wave) < least * (1.0 - self.margin):
            self.wave = wave

    def _tries(self, known: World) -> int:
        if self.settings.tries is not None:
            return self.settings.tries
        left = int(known.workflows["left"][_arrived(known)].sum())
        return max(_TRIES, min(_MOST_TRIES, _PLAYED // max(1, left)))

    def _next(self) -> Rule:
        self.turn += 1
        return self.portfolio[self.turn % len(self.portfolio)]

    def fixed(self, one: Rule) -> Rule:
        return one._replace(**self.settings.fixed)

    def played(
        self, known: World, candidate: Rule, is_late: Callable[[], bool] = lambda: False, wave: Chosen | None = None
    ) -> float:
        """The score of going on with the candidate to the end of all known work; infinite where it got too late.

        :param wave: what to begin with.
        """
        for name in CHANGING:
            np.copyto(getattr(self.scratch, name), getattr(known, name))
        if wave is None:
            decide(self.scratch, self.view, candidate)
        else:
            apply_wave(self.scratch, self.view, candidate, wave)
        while play(self.scratch, self.view, candidate, _MOMENTS) == _MOMENTS:
            if is_late():
                return float("inf")
        return score(self.scratch, self.settings.objective)
