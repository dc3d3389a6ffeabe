"""How is a choice carried out? In the world, and in the profile of those behind it."""

from __future__ import annotations

from airflow_fate.physics.dynamics.event_loop import begin_binding, bind_shard
from airflow_fate.physics.dynamics.residency import evict, evictable, read_s, share_bytes
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.dispatch.trace import trace
from airflow_fate.planner.forecast.estimate import Candidate, Estimate
from airflow_fate.planner.forecast.pace import own_context_tokens
from airflow_fate.planner.forecast.prefixes import expect_chain
from airflow_fate.planner.forecast.profile import NEVER_S, Profile, exclude, take_prefill, take_slots
from airflow_fate.planner.forecast.residency import choose_victims, forget_evictions, gain, take_victims
from airflow_fate.planner.forecast.sight import Eviction


@compiled
def bind(world: World, profile: Profile, rule: Rule, candidate: Candidate, place: int, met: Estimate) -> None:
    """Bind the whole stage to the place.

    :param met: what it would meet there.
    """
    begin_binding(world, candidate.stage)
    bind_part(world, profile, rule, candidate, place, world.stages[candidate.stage].prompts, met)


@compiled
def bind_part(
    world: World, profile: Profile, rule: Rule, candidate: Candidate, place: int, prompts: int, met: Estimate
) -> None:
    """Bind some of its prompts to the place; idle models leave where its own needs their room."""
    trace(world, profile, rule, candidate, place, prompts, False, met)
    if profile.ready_s[place, world.stages[candidate.stage].model] >= NEVER_S:
        _evict_idle(world, profile, rule.eviction, place, world.stages[candidate.stage].model)
    reserve(world, profile, rule, candidate.stage, place, prompts, met)
    bind_shard(world, candidate.stage, place, prompts)


@compiled
def _evict_idle(world: World, profile: Profile, eviction: Eviction, place: int, model: int) -> None:
    """Make room for the model now, where all that must leave for it is idle; else its load waits for room."""
    victims = choose_victims(world, profile, eviction, place, model)
    for k in range(victims):
        if not evictable(world, profile.victims[0, k], profile.victims[1, k]):
            return
    for k in range(victims):
        evict(world, profile.victims[0, k], profile.victims[1, k])


@compiled
def reserve(world: World, profile: Profile, rule: Rule, stage: int, place: int, prompts: int, met: Estimate) -> None:
    """Count the stage on the place, for those behind it: as bound where it starts now, else as nominated."""
    waits = met.start_s > world.tally[0].now + SAME_TIME_S
    expect_chain(world, profile, stage, place, not waits)
    m = world.stages[stage].model
    if waits and rule.dispatch.backfill:
        profile.nominated_from_s[place] = min(profile.nominated_from_s[place], met.start_s)
    if profile.ready_s[place, m] >= NEVER_S:
        take_victims(world, profile, choose_victims(world, profile, rule.eviction, place, m))
        ready_s = met.start_s + read_s(world, place, m)
        gain(world, profile, place, m, ready_s)
        share = share_bytes(world, m)
        for j in range(world.member_indptr[place], world.member_indptr[place + 1]):
            d = world.member_indices[j]
            profile.used_bytes[d] += share
            profile.loads_done_s[d] = ready_s
    take_prefill(profile, place, met.begin_s, met.end_s)
    profile.in_use_until_s[place, m] = max(profile.in_use_until_s[place, m], met.finish_s)
    take_slots(profile, place, met.finish_s, prompts, own_context_tokens(world, stage, prompts))
    exclude(world, profile, place, met.finish_s)
    forget_evictions(world, profile, place)
