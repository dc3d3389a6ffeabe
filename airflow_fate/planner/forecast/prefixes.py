"""Which prefixes will lie where, and which would be lost with an evicted model?"""

from __future__ import annotations

from airflow_fate.physics.dynamics.prefix_cache import cached_tokens, prefill_tokens
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import reusable_tokens
from airflow_fate.physics.world.arrays import BOUND, READY, WAITING, World
from airflow_fate.planner.forecast.profile import Profile
from airflow_fate.planner.forecast.sight import Sight

_WITH_BOUND, _WITH_NOMINATED = 1, 2
"""How a segment comes to a place: with a stage that is bound, or with one that is nominated for it."""


@compiled
def expect_chain(world: World, profile: Profile, stage: int, place: int, bound: bool) -> None:
    """The stage will be computed there: those behind it find its chain."""
    base = place * world.segments.shape[0]
    first, end = world.chain_indptr[stage], world.chain_indptr[stage + 1]
    continues = world.stages[stage].continues >= 0 and first < end
    if continues and not _will_lie(world, profile, base + world.chain_indices[first], False):
        return
    for k in range(first, end):
        cell = base + world.chain_indices[k]
        if bound:
            profile.arriving[cell] = _WITH_BOUND
        elif profile.arriving[cell] == 0:
            profile.arriving[cell] = _WITH_NOMINATED


@compiled
def expect_conversation(world: World, profile: Profile, parent: int) -> None:
    """The conversation of a parent that is under way will lie where it decodes."""
    if parent < 0 or world.stages[parent].status != BOUND:
        return
    s = world.stages[parent]
    for shard in range(s.first_shard, s.first_shard + s.shards):
        cell = world.shards[shard].place * world.segments.shape[0] + s.conversation
        profile.arriving[cell] = _WITH_BOUND


@compiled
def _will_lie(world: World, profile: Profile, cell: int, now: bool) -> bool:
    """:param now: whether for a stage that is bound now, before all that are nominated."""
    arriving = profile.arriving[cell]
    return world.cells[cell].refcount >= 0 or arriving == _WITH_BOUND or (not now and arriving == _WITH_NOMINATED)


@compiled
def expected_cached_tokens(world: World, profile: Profile, sight: Sight, stage: int, place: int, now: bool) -> float:
    """Leading tokens of the prompt that need not be computed there, bound now or later."""
    if sight.sees_prefixes == 0:
        return 0.0
    if sight.sees_arriving == 0:
        return cached_tokens(world, stage, place)
    base = place * world.segments.shape[0]
    tokens = 0.0
    for k in range(world.chain_indptr[stage], world.chain_indptr[stage + 1]):
        segment = world.chain_indices[k]
        if not _will_lie(world, profile, base + segment, now):
            break
        tokens += world.segments[segment].tokens
    return reusable_tokens(tokens, world.stages[stage].prompt_tokens)


@compiled
def expected_prefill(
    world: World, profile: Profile, sight: Sight, stage: int, place: int, prompts: int, now: bool
) -> tuple[float, float]:
    """(leading tokens that need not be computed there, seconds to compute so many of the stage's prompts)."""
    cached = expected_cached_tokens(world, profile, sight, stage, place, now)
    return cached, prefill_tokens(world, stage, prompts, cached) / world.prefill_tps[world.stages[stage].model, place]


@compiled
def most_cached_tokens(world: World, profile: Profile, sight: Sight, stage: int) -> float:
    """On the place that will have most of the prompt."""
    m = world.stages[stage].model
    most = 0.0
    if world.chain_indptr[stage] == world.chain_indptr[stage + 1]:
        return most
    for place in range(world.places.shape[0]):
        if world.prefill_tps[m, place] > 0.0 and world.places[place].usable != 0:
            most = max(most, expected_cached_tokens(world, profile, sight, stage, place, False))
    return most


@compiled
def assess_prefixes(world: World, profile: Profile) -> None:
    """Seconds to compute again what goes with each model: prefixes of known stages that no other place has.

    Each counts once, since whoever computes it again leaves it for the next.
    """
    profile.lost_prefix_s[:] = 0.0
    profile.holders[:] = -1
    for stage in range(world.stages.shape[0]):
        status = world.stages[stage].status
        if status in (WAITING, READY):
            for k in range(world.chain_indptr[stage], world.chain_indptr[stage + 1]):
                profile.holders[world.chain_indices[k]] = 0
    size = world.segments.shape[0]
    for count in range(2):
        for d in range(world.devices.shape[0]):
            cell = world.devices[d].oldest
            while cell >= 0:
                segment, place = cell % size, cell // size
                if profile.holders[segment] >= 0:
                    m = world.segments[segment].model
                    if count == 0:
                        profile.holders[segment] += 1
                    elif profile.holders[segment] == 1 and world.prefill_tps[m, place] > 0.0:
                        tokens = world.segments[segment].tokens
                        profile.lost_prefix_s[place, m] += tokens / world.prefill_tps[m, place]
                cell = world.cells[cell].newer
