"""How long do prompts and outputs take beside others? Where an engine's steps are shared, each delays the other."""

from __future__ import annotations

from airflow_fate.physics.jit import terms
from airflow_fate.physics.jit.compiled import compiled
from airflow_fate.physics.world.arrays import World


@compiled
def step(world: World, place: int, model: int, sequences: int, context_tokens: float) -> float:
    """How many times longer than a lone sequence's a step takes, with so many sequences and so much context in it."""
    slowdown, per_token = world.decode_slowdown[model, place], world.context_slowdown[model, place]
    return terms.step(slowdown, max(1, sequences), per_token, context_tokens)


@compiled
def own_context_tokens(world: World, stage: int, prompts: int) -> float:
    """What so many of the stage's prompts add to a batch, as far as their outputs are known."""
    s = world.stages[stage]
    return terms.context_tokens(prompts, s.prompt_tokens, s.expected_tokens)


@compiled
def prefill_stretch(
    world: World, place: int, model: int, sequences: int, context_tokens: float, prefill_s: float
) -> float:
    """How many times longer than alone prompts take beside so many sequences that decode ("Steps").

    :param prefill_s: how long they take alone.
    """
    batch_tokens = world.places[place].batch_tokens
    if batch_tokens == 0 or sequences == 0:
        return 1.0
    tps = world.prefill_tps[model, place]
    chunk_s = terms.chunk_tokens(batch_tokens, sequences, prefill_s * tps) / tps
    return 1.0 + step(world, place, model, sequences, context_tokens) / world.decode_tps[model, place] / chunk_s


@compiled
def stall_s(world: World, place: int, model: int, sequences: int, step: float, decode_s: float, busy_s: float) -> float:
    """Seconds that prompts of others, computed in the same steps, add to a decoding ("Steps").

    :param step: how many times longer than alone its steps take without them.
    :param decode_s: how long it takes without them.
    :param busy_s: how long prompts are being computed there from its beginning on.
    """
    batch_tokens = world.places[place].batch_tokens
    if batch_tokens == 0 or busy_s <= 0.0:
        return 0.0
    tps = world.prefill_tps[model, place]
    chunk = terms.chunk_tokens(batch_tokens, sequences, busy_s * tps) / tps * world.decode_tps[model, place]
    return min(decode_s * chunk / step, busy_s * chunk / (step + chunk))
