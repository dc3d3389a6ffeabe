"""Is there a better way to go on than the rule that is followed? A search that keeps a wall limit, given a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.joint import Shares
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.heartbeat import OF_EVERY_RULE
from airflow_fate.planner.search.search import Search, Settings

_MOST_TRIES = 64
_IN_ALL, _FOR_RULES = 0.8, 0.4
"""Of the time: some passes between two looks at the clock. What is not the rules' is the joint assignment's."""
_TO_SOLVE = 0.3
"""Of the time that is left then: its model must be built before, and what it decides is rolled out."""


@dataclass(frozen=True)
class Better:
    """What was found.

    :param joint: (stage, place, prompts) as indices of the world: with what to begin, where that is better than what
        the rule begins with.
    """

    rule: Rule
    joint: Shares = ()


def better_way(
    world: World,
    incumbent: Rule,
    greedy: Rule,
    objective: str,
    seed: int,
    limit_s: float,
    *,
    clock: Callable[[], float],
) -> Better:
    """The best rule that is found by rolling out, and CP-SAT's joint assignment; the incumbent and none where neither
    is better, or none was rolled out in time.

    :param seed: another one looks at other candidates.
    """
    began = clock()
    until_s = began + _IN_ALL * limit_s
    search = Search(world, Settings(objective, seed, tries=_MOST_TRIES, greedy=greedy, fixed=OF_EVERY_RULE))
    search.incumbent, search.next_candidate = incumbent, seed
    known = search.expected(world)
    least = search.improve(known, lambda: clock() >= began + _FOR_RULES * limit_s)
    left_s = until_s - clock()
    if left_s > 0.0 and world.tally[0].ready > 1:
        search.solve(known, least, lambda: clock() >= until_s, _TO_SOLVE * left_s)
    return Better(search.incumbent, search.joint.shares if search.joint else ())
