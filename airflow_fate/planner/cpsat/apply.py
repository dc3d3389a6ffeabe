"""How does a wave begin? Its stages that can start are bound, the others take their turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.engine import begin_binding, settle
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.binding import bind_part
from airflow_fate.planner.lists.decide import look
from airflow_fate.planner.lists.quote import quote, reserve
from airflow_fate.planner.lists.rooms import choose_victims
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import NEVER_S, NOW_S, View

if TYPE_CHECKING:
    from airflow_fate.planner.cpsat.improve import Chosen


def apply_wave(world: World, view: View, rule: Rule, wave: Chosen) -> int:
    """Begin the wave in the world, at the moment for which it was chosen; how many stages were bound."""
    return apply_shares(world, view, rule, np.array(wave.shares, dtype=np.int64).reshape(-1, 3))


@compiled
def apply_shares(world: World, view: View, rule: Rule, shares: NDArray[np.int64]) -> int:
    look(world, view, rule)
    latest_s = world.tally[0].now + NOW_S
    bound, first = 0, 0
    while first < shares.shape[0]:
        stage, end = shares[first, 0], first
        can_start = True
        while end < shares.shape[0] and shares[end, 0] == stage:
            offer = quote(world, view, rule, stage, shares[end, 1], shares[end, 2])
            can_start = can_start and offer.start_s <= latest_s
            end += 1
        if can_start:
            begin_binding(world, stage)
            bound += 1
        for k in range(first, end):
            place, prompts = shares[k, 1], shares[k, 2]
            if can_start:
                bind_part(world, view, rule, stage, place, prompts)
                continue
            offer = quote(world, view, rule, stage, place, prompts)
            if offer.start_s < NEVER_S:
                victims = 0
                if view.ready_s[place, world.stages[stage].model] >= NEVER_S:
                    victims = max(0, choose_victims(world, view, rule, place, world.stages[stage].model))
                reserve(world, view, rule, stage, place, prompts, offer, victims)
        first = end
    settle(world)
    return bound
