"""How does a joint assignment begin? Its stages that can start are bound, the others are nominated."""

from __future__ import annotations

import numpy as np

from airflow_fate.physics.dynamics.event_loop import begin_binding, settle
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import Ints, World
from airflow_fate.planner.dispatch.binding import bind_part, reserve
from airflow_fate.planner.dispatch.dispatch import look
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.estimate import Candidate, estimate
from airflow_fate.planner.forecast.profile import NEVER_S, Profile

Shares = tuple[tuple[int, int, int], ...]
"""(stage, place, prompts), a stage's shares one behind the other, most urgent first."""


def dispatch_jointly(world: World, profile: Profile, rule: Rule, shares: Shares) -> int:
    """Begin the assignment in the world, at the epoch for which it was chosen; how many stages were bound."""
    return dispatch_shares(world, profile, rule, np.array(shares, dtype=np.int64).reshape(-1, 3))


@compiled
def dispatch_shares(world: World, profile: Profile, rule: Rule, shares: Ints) -> int:
    """:param shares: [share, 3]"""
    look(world, profile, rule)
    now = world.tally[0].now
    bound, first = 0, 0
    while first < shares.shape[0]:
        candidate, end = Candidate(shares[first, 0], now, 0.0, 0.0), first
        can_start = True
        while end < shares.shape[0] and shares[end, 0] == candidate.stage:
            place, prompts = shares[end, 1], shares[end, 2]
            met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
            can_start = can_start and met.start_s <= now + SAME_TIME_S
            end += 1
        if can_start:
            begin_binding(world, candidate.stage)
            bound += 1
        for k in range(first, end):
            place, prompts = shares[k, 1], shares[k, 2]
            met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, prompts)
            if can_start:
                bind_part(world, profile, rule, candidate, place, prompts, met)
            elif met.start_s < NEVER_S:
                reserve(world, profile, rule, candidate.stage, place, prompts, met)
        first = end
    settle(world)
    return bound
