"""Is there a better rule than the one that is followed? A search that keeps a wall limit, given a clock."""

from __future__ import annotations

from collections.abc import Callable

from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.heartbeat import BIND_AHEAD_S
from airflow_fate.planner.horizon import Search, Settings
from airflow_fate.planner.lists.rule import Rule

_MOST_TRIES = 64


def better_rule(
    world: World,
    incumbent: Rule,
    greedy: Rule,
    objective: str,
    seed: int,
    limit_s: float,
    *,
    clock: Callable[[], float],
) -> Rule:
    """The best rule that is found by playing forward; the incumbent where none is better, or none was played in time.

    :param seed: another one looks at other candidates.
    """
    until_s = clock() + limit_s
    fixed = {"bind_ahead_s": BIND_AHEAD_S, "follows": 1}
    search = Search(world, Settings(objective, seed, tries=_MOST_TRIES, solve_s=0.0, greedy=greedy, fixed=fixed))
    search.incumbent, search.turn = incumbent, seed
    search.improve(world, lambda: clock() >= until_s)
    return search.incumbent
