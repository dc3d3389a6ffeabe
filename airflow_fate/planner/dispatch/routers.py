"""Where would a router send a stage? Scores of places that know less than the full cost."""

from __future__ import annotations

from airflow_fate.physics.dynamics.prefix_cache import cached_tokens, prefill_tokens
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.jit.terms import SAME_TIME_S
from airflow_fate.physics.world.arrays import World
from airflow_fate.planner.dispatch.rule import (
    CYCLIC,
    DYNAMO,
    EPP,
    MODEL_AFFINITY,
    PREFIX_AFFINITY,
    Rule,
)
from airflow_fate.planner.forecast.estimate import CANNOT, Candidate, Estimate, estimate
from airflow_fate.planner.forecast.profile import NEVER_S, Profile

_KV_BLOCK_TOKENS = 16.0
_LOADED_MORE, _LOADED_TIMES = 4.0, 1.5
"""Sequences by which places may differ, as a number or as a factor, before the load counts more than the prefix."""
_PREFIX_FIRST = 1e3
_NOT_THERE = 1e9
"""A place without the model comes after all that have it."""


@compiled
def route(world: World, profile: Profile, rule: Rule, candidate: Candidate) -> tuple[int, Estimate]:
    """The free place with the best score and what the stage would meet there; -1 when none is free.

    A router that pushes looks at busy places as well.
    """
    stage, by, push = candidate.stage, rule.dispatch.place, rule.dispatch.push
    s, latest_s, places = world.stages[stage], world.tally[0].now + SAME_TIME_S, world.places.shape[0]
    m = s.model
    best, best_score, best_met = -1, 1e300, CANNOT
    least, most = 1e300, 0.0
    if by == PREFIX_AFFINITY:
        for place in range(places):
            if world.prefill_tps[m, place] > 0 and world.places[place].usable:
                least = min(least, float(profile.sequences[place]))
                most = max(most, float(profile.sequences[place]))
    balanced = most - least <= _LOADED_MORE or most <= _LOADED_TIMES * least
    for k in range(places):
        place = (world.tally[0].cursor + k) % places if by == CYCLIC else k
        p = world.places[place]
        if world.prefill_tps[m, place] <= 0 or p.usable == 0:
            continue
        resident = profile.ready_s[place, m] < NEVER_S
        met = estimate(world, profile, rule.sight, rule.timing, rule.eviction, candidate, place, s.prompts)
        if not push and (met.start_s > latest_s or p.prefills_left > 0):
            continue
        if by == CYCLIC:
            world.tally[0].cursor = (place + 1) % places
            return place, met
        load = profile.sequences[place] / p.max_seqs
        score = load
        if by == MODEL_AFFINITY:
            score += 0.0 if resident else _NOT_THERE
        elif by == PREFIX_AFFINITY:
            share = cached_tokens(world, stage, place) / max(1.0, s.prompt_tokens)
            score += 0.0 if resident else _NOT_THERE
            if balanced:
                score -= _PREFIX_FIRST * share
        elif by == EPP:
            share = cached_tokens(world, stage, place) / max(1.0, s.prompt_tokens)
            device = world.devices[p.home]
            queue = p.bound_shards / p.max_seqs
            kv = device.kv_used / max(1.0, device.kv_tokens)
            score = -3.0 * share - 2.0 * (1.0 - min(1.0, queue)) - 2.0 * (1.0 - min(1.0, kv))
            score += 0.0 if resident else _NOT_THERE
        elif by == DYNAMO:
            new = prefill_tokens(world, stage, s.prompts, cached_tokens(world, stage, place))
            score = (0.0 if resident else _NOT_THERE) + (new + _decoding_tokens(world, place)) / _KV_BLOCK_TOKENS
        if score < best_score:
            best, best_score, best_met = place, score, met
    return best, best_met


@compiled
def _decoding_tokens(world: World, place: int) -> float:
    """Tokens of the conversations that are in flight on the place."""
    tokens = 0.0
    shard = world.places[place].decode_head
    while shard >= 0:
        row = world.shards[shard]
        s = world.stages[row.stage]
        tokens += row.prompts * (s.prompt_tokens + s.expected_tokens)
        shard = row.next
    shard = world.places[place].slot_head
    while shard >= 0:
        row = world.shards[shard]
        tokens += row.prompts * world.stages[row.stage].prompt_tokens
        shard = row.next
    return tokens
