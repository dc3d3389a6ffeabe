"""Where would a router send a stage? Scores of places that know less than the full cost."""

from __future__ import annotations

from airflow_fate.physics.kernel.compiled import compiled
from airflow_fate.physics.kernel.prefixes import cached_tokens, prefill_tokens
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.quote import quote
from airflow_fate.planner.lists.rule import (
    CYCLIC,
    DYNAMO,
    EPP,
    MODEL_AFFINITY,
    PREFIX_AFFINITY,
    Rule,
)
from airflow_fate.planner.lists.view import NEVER_S, NOW_S, View

_KV_BLOCK_TOKENS = 16.0
_LOADED_MORE, _LOADED_TIMES = 4.0, 1.5
"""Sequences by which places may differ, as a number or as a factor, before the load counts more than the prefix."""
_PREFIX_FIRST = 1e3
_NOT_THERE = 1e9
"""A place without the model comes after all that have it."""


@compiled
def route(world: World, view: View, rule: Rule, stage: int) -> int:
    """The free place with the best score, -1 when none is free; a router that pushes looks at busy ones as well."""
    s, now, places = world.stages[stage], world.tally[0].now, world.places.shape[0]
    m = s.model
    best, best_score = -1, 1e300
    least, most = 1e300, 0.0
    if rule.place == PREFIX_AFFINITY:
        for place in range(places):
            if world.prefill_tps[m, place] > 0 and world.places[place].usable:
                least = min(least, float(view.seqs[place]))
                most = max(most, float(view.seqs[place]))
    balanced = most - least <= _LOADED_MORE or most <= _LOADED_TIMES * least
    for k in range(places):
        place = (world.tally[0].cursor + k) % places if rule.place == CYCLIC else k
        p = world.places[place]
        if world.prefill_tps[m, place] <= 0 or p.usable == 0:
            continue
        resident = view.ready_s[place, m] < NEVER_S
        if not rule.push:
            offer = quote(world, view, rule, stage, place, s.prompts)
            if offer.start_s > now + NOW_S or p.unfilled > 0:
                continue
        if rule.place == CYCLIC:
            world.tally[0].cursor = (place + 1) % places
            return place
        load = view.seqs[place] / p.max_seqs
        score = load
        if rule.place == MODEL_AFFINITY:
            score += 0.0 if resident else _NOT_THERE
        elif rule.place == PREFIX_AFFINITY:
            share = cached_tokens(world, stage, place) / max(1.0, s.prompt_tokens)
            score += 0.0 if resident else _NOT_THERE
            if balanced:
                score -= _PREFIX_FIRST * share
        elif rule.place == EPP:
            share = cached_tokens(world, stage, place) / max(1.0, s.prompt_tokens)
            device = world.devices[p.home]
            queue = p.bound_shards / p.max_seqs
            kv = device.kv_used / max(1.0, device.kv_tokens)
            score = -3.0 * share - 2.0 * (1.0 - min(1.0, queue)) - 2.0 * (1.0 - min(1.0, kv))
            score += 0.0 if resident else _NOT_THERE
        elif rule.place == DYNAMO:
            new = prefill_tokens(world, stage, s.prompts, cached_tokens(world, stage, place))
            score = (0.0 if resident else _NOT_THERE) + (new + _decoding_tokens(world, place)) / _KV_BLOCK_TOKENS
        if score < best_score:
            best, best_score = place, score
    return best


@compiled
def _decoding_tokens(world: World, place: int) -> float:
    """Tokens of the conversations that are in flight on the place."""
    tokens = 0.0
    shard = world.places[place].run_head
    while shard >= 0:
        one = world.shards[shard]
        s = world.stages[one.stage]
        tokens += one.prompts * (s.prompt_tokens + s.expected_tokens)
        shard = one.next
    shard = world.places[place].seat_head
    while shard >= 0:
        one = world.shards[shard]
        tokens += one.prompts * world.stages[one.stage].prompt_tokens
        shard = one.next
    return tokens
