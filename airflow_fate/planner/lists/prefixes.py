"""Which prefixes will lie where, and which would be lost with an evicted model?"""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.prefixes import cached_tokens
from airflow_fate.physics.kernel.world import READY, WAITING, World
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import View

ON_ITS_WAY, IN_TURN = 1, 2
"""How a segment comes to a place: with a stage that is bound, or with one that waits for its turn there."""


@compiled
def follow(world: World, view: View, stage: int, place: int, bound: bool) -> None:
    """The stage will be computed there: those behind it find its chain."""
    base = place * world.segments.shape[0]
    first, end = world.chain_at[stage], world.chain_at[stage + 1]
    if world.stages[stage].continues >= 0 and first < end and not _there(world, view, base + world.chain[first], False):
        return
    for k in range(first, end):
        cell = base + world.chain[k]
        if bound:
            view.coming[cell] = ON_ITS_WAY
        elif view.coming[cell] == 0:
            view.coming[cell] = IN_TURN


@compiled
def _there(world: World, view: View, cell: int, now: bool) -> bool:
    """:param now: whether for a stage that is bound now, before all that wait for their turns."""
    return world.cells[cell].pins >= 0 or view.coming[cell] == ON_ITS_WAY or (not now and view.coming[cell] == IN_TURN)


@compiled
def found_tokens(world: World, view: View, rule: Rule, stage: int, place: int, now: bool) -> float:
    """Leading tokens of the prompt that need not be computed there, bound now or when its turn comes."""
    if rule.sees_prefixes == 0:
        return 0.0
    if rule.follows == 0:
        return cached_tokens(world, stage, place)
    base = place * world.segments.shape[0]
    tokens = 0.0
    for k in range(world.chain_at[stage], world.chain_at[stage + 1]):
        segment = world.chain[k]
        if not _there(world, view, base + segment, now):
            break
        tokens += world.segments[segment].tokens
    return max(0.0, min(tokens, world.stages[stage].prompt_tokens - 1.0))


@compiled
def most_found_tokens(world: World, view: View, rule: Rule, stage: int) -> float:
    """On the place that has most of the prompt."""
    m = world.stages[stage].model
    most = 0.0
    if world.chain_at[stage] == world.chain_at[stage + 1]:
        return most
    for place in range(world.places.shape[0]):
        if world.prefill_tps[m, place] > 0.0 and world.places[place].usable != 0:
            most = max(most, found_tokens(world, view, rule, stage, place, False))
    return most


@compiled
def assess_prefixes(world: World, view: View) -> None:
    """Seconds to compute again what goes with each model: prefixes of known stages that no other place has.

    Each counts once, since whoever computes it again leaves it for the next.
    """
    view.lost_s[:] = 0.0
    view.holders[:] = -1
    for stage in range(world.stages.shape[0]):
        status = world.stages[stage].status
        if status in (WAITING, READY):
            for k in range(world.chain_at[stage], world.chain_at[stage + 1]):
                view.holders[world.chain[k]] = 0
    size = world.segments.shape[0]
    for count in range(2):
        for d in range(world.devices.shape[0]):
            cell = world.devices[d].oldest
            while cell >= 0:
                segment, place = cell % size, cell // size
                if view.holders[segment] >= 0:
                    m = world.segments[segment].model
                    if count == 0:
                        view.holders[segment] += 1
                    elif view.holders[segment] == 1 and world.prefill_tps[m, place] > 0.0:
                        view.lost_s[place, m] += world.segments[segment].tokens / world.prefill_tps[m, place]
                cell = world.cells[cell].newer
