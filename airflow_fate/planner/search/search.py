"""Which way of going on is best? Candidates are rolled out through all known work; the winner is kept for a while.

Receding horizon: every few decision epochs the world is copied as far as it is known, each candidate rule is rolled out
on the copy to its end, and the one with the best score goes on in the real one. The candidates are a portfolio of list
policies, the incumbent, and perturbations of the best so far. The greedy rule is always among them, so that under the
estimates nothing worse is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.dynamics.event_loop import advance
from airflow_fate.physics.restart.expected import as_expected
from airflow_fate.physics.world.arrays import CHANGING, STEPS, World, copy
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.joint import dispatch_jointly
from airflow_fate.planner.dispatch.rollout import rollout
from airflow_fate.planner.dispatch.rule import Rule, changed
from airflow_fate.planner.forecast.profile import Profile, make_profile
from airflow_fate.planner.forecast.sight import LEAST_RECENT
from airflow_fate.planner.objectives import DEFAULT, OBJECTIVES
from airflow_fate.planner.search.correction import Correction
from airflow_fate.planner.search.joint import JointAssignment, improve_assignment
from airflow_fate.planner.search.joint.solve import Limit
from airflow_fate.planner.search.portfolio import DISPATCH, GREEDY, LIGHT, PORTFOLIO, neighbour

_TAIL_ORDER = 8.0
_MARGIN = 0.02
"""By so much of the score another rule must look better, and by as much again for each unit by which the logarithm of
outputs over their expectation spreads. Smaller differences are chance, and what is still to come is not seen."""
_FEW = 20
"""So few stages left are searched for at any news."""
_NEWS = 0.4
"""Of the stages known and not done, beyond those few, so many must have arrived or ended before the next search."""
_TRIES, _MOST_TRIES = 6, 200
_ROLLED_OUT = 1000
"""A search rolls out so many stages at least, within the most tries: of few that are left, a rollout costs nothing."""
_SOLVE_WALL_S = 5.0
"""A joint assignment that takes so long is given up; the deterministic limit ends it long before."""
_EPOCHS = 100
"""So many are rolled out between two looks at the clock."""

PARTS = (
    "holding",
    "overlap",
    "lookahead",
    "rollouts",
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

    :param every: decision epochs that lie between two searches at least, where as many stages are known beyond a few;
        else as many as those.
    :param tries: candidates beside the incumbent; None for as many as what is left allows.
    :param levels: unfinished stages that may lie before a stage for a rollout to see it.
    :param correct: whether estimates of outputs are corrected by what came of those before.
    :param solve_s: deterministic time of CP-SAT for a joint assignment in each search; 0 for none.
    :param greedy: the incumbent at the beginning; the objective's, if none is named.
    :param fixed: fields of every rule, where a part is off.
    """

    objective: str = DEFAULT
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
            fixed |= {"waits": 0, "reserve": 0, "backfill": 0, "lookahead": 0.0}
        if not options.get("overlap", 1):
            fixed |= {"overlap": 0.0}
        if not options.get("lookahead", 1):
            fixed |= {"lookahead": 0.0}
        if not options.get("eviction", 1):
            fixed |= {"evict_by": LEAST_RECENT, "reload": 0.0}
        if not options.get("prefetch", 1):
            fixed |= {"prefetch": 0.0}
        if "shards" in options:
            fixed |= {"most_shards": int(options["shards"])}
        for part, name in (("residency", "sees_loads"), ("locality", "sees_transfers"), ("prefix", "sees_prefixes")):
            if not options.get(part, 1):
                fixed |= {name: 0}
        if not options.get("reachability", 1):
            weights = ("contention", "interference", "prefill", "busy_period", "yielding")
            fixed |= dict.fromkeys(weights, 0.0)
        off = all(not options.get(part, 1) for part in PARTS)
        return replace(
            self,
            every=int(options.get("every", self.every)),
            tries=(int(options["tries"]) if "tries" in options else self.tries) if options.get("rollouts", 1) else 0,
            levels=int(options.get("horizon", self.levels)),
            correct=bool(options.get("estimates", 1)),
            solve_s=self.solve_s if options.get("cpsat", 1) else 0.0,
            greedy=DISPATCH if off else self.greedy,
            fixed={} if off else fixed,
        )


def score(world: World, objective: str) -> float:
    """Seconds, of what has arrived, to be as few as possible."""
    weights = OBJECTIVES[objective]
    flows = world.workflows
    ended = flows["done_s"] >= 0.0
    if not ended.any():
        return 0.0
    done_s, weight = flows["done_s"][ended], flows["weight"][ended]
    latency_s = done_s - flows["arrival_s"][ended]
    value = weights.last_end * float(done_s.max()) + weights.mean * float(np.average(latency_s, weights=weight))
    if weights.tail:
        value += weights.tail * float(np.average(latency_s**_TAIL_ORDER, weights=weight) ** (1.0 / _TAIL_ORDER))
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
        self._epochs = float("inf")

    def are_due(self, world: World, every: int) -> bool:
        """Whether a search is worth its while at this epoch; if so, the next count begins."""
        self._epochs += 1
        known = int(self._stages[world.tally[0].arrived])
        done = int(self._stages[-1] - world.tally[0].stages_left)
        news = known + done - self._seen
        many = known - done - _FEW
        if self._epochs < min(every, many) or news < max(1.0, _NEWS * many):
            return False
        self._seen, self._epochs = known + done, 0
        return True


class Search:
    """The incumbent rule for one world, and the scratch memory to look for better ones."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.settings = settings
        self.rng = np.random.default_rng(settings.seed)
        self.greedy = self.fixed(settings.greedy or GREEDY[settings.objective])
        self.incumbent = self.greedy
        self.joint: JointAssignment | None = None
        self.portfolio = tuple(dict.fromkeys(self.fixed(rule) for rule in PORTFOLIO[settings.objective]))
        self.next_candidate = 0
        self.margin = _MARGIN
        self.correction = Correction(world)
        self.scratch = copy(world)
        self.profile = make_profile(world)

    def drive(self, world: World, clock: Callable[[], float]) -> list[float]:
        """Run the world to its end, searching when there is news; seconds of each plan."""
        profile = make_profile(world)
        seconds: list[float] = []
        news = News(world)
        while advance(world):
            begin = clock()
            if world.tally[0].ready > 0 and news.are_due(world, self.settings.every):
                known = self.expected(world)
                least = self.improve(known)
                if self.settings.solve_s:
                    self.solve(known, least)
            self.proceed(world, profile)
            seconds.append(clock() - begin)
        return seconds

    def proceed(self, world: World, profile: Profile) -> None:
        """Begin the joint assignment, where one was found for this epoch; else follow the incumbent."""
        joint, self.joint = self.joint, None
        self._dispatch(world, profile, self.incumbent, joint)

    def _dispatch(self, world: World, profile: Profile, rule: Rule, joint: JointAssignment | None) -> None:
        if joint is None:
            dispatch(world, profile, rule)
        else:
            dispatch_jointly(world, profile, rule, joint.shares)

    def expected(self, world: World) -> World:
        """How the world goes on, as far as it is known."""
        self.margin = _MARGIN * (1.0 + (self.correction.apply(world) if self.settings.correct else 0.0))
        known = copy(world)
        as_expected(known, self.settings.levels)
        return known

    def improve(self, known: World, is_late: Callable[[], bool] = lambda: False) -> float:
        """Look for a better way to go on than the incumbent's, or greedy's.

        :param is_late: whether it is time to stop; what was not rolled out to its end by then counts for nothing.
        :returns: the score of going on with the incumbent; infinite where that was not rolled out to its end.
        """
        tries = self._tries(known)
        if tries == 0:
            return float("inf")
        best, least = self.incumbent, self.rollout_score(known, self.incumbent, is_late)
        if self.greedy != best and (value := self.rollout_score(known, self.greedy, is_late)) < least:
            best, least = self.greedy, value
        enough, late_day = least * (1.0 - self.margin), _is_late_day(known)
        for attempt in range(tries):
            if is_late():
                break
            # As many of the portfolio, in turns, as perturbations of the best so far.
            candidate = self._next() if attempt < tries // 2 else self.fixed(neighbour(best, self.rng))
            if attempt % 2 and late_day:
                candidate = self.fixed(changed(candidate, **LIGHT))
            value = self.rollout_score(known, candidate, is_late)
            if value < min(least, enough):
                best, least = candidate, value
        self.incumbent = best
        return least

    def solve(
        self, known: World, least: float, is_late: Callable[[], bool] = lambda: False, wall_s: float = _SOLVE_WALL_S
    ) -> None:
        """Look for a joint assignment that is a better beginning than the incumbent's; CP-SAT sees all places at once.

        :param least: the score of going on with the incumbent, as ``improve`` found it.
        """
        limit = Limit(wall_s, self.settings.solve_s, self.settings.seed)
        joint = improve_assignment(known, self.profile, self.incumbent, limit)
        if joint is None or is_late():
            return
        if least == float("inf"):
            least = self.rollout_score(known, self.incumbent, is_late)
        if self.rollout_score(known, self.incumbent, is_late, joint) < least * (1.0 - self.margin):
            self.joint = joint

    def _tries(self, known: World) -> int:
        if self.settings.tries is not None:
            return self.settings.tries
        left = int(known.workflows["left"][_arrived(known)].sum())
        return max(_TRIES, min(_MOST_TRIES, _ROLLED_OUT // max(1, left)))

    def _next(self) -> Rule:
        self.next_candidate += 1
        return self.portfolio[self.next_candidate % len(self.portfolio)]

    def fixed(self, rule: Rule) -> Rule:
        return changed(rule, **self.settings.fixed)

    def rollout_score(
        self,
        known: World,
        candidate: Rule,
        is_late: Callable[[], bool] = lambda: False,
        joint: JointAssignment | None = None,
    ) -> float:
        """The score of going on with the candidate to the end of all known work; infinite where it got too late.

        :param joint: what to begin with.
        """
        for name in CHANGING:
            np.copyto(getattr(self.scratch, name), getattr(known, name))
        self._dispatch(self.scratch, self.profile, candidate, joint)
        while rollout(self.scratch, self.profile, candidate, _EPOCHS) == _EPOCHS:
            if is_late():
                return float("inf")
        return score(self.scratch, self.settings.objective)
