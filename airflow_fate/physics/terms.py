"""What do the formulas of docs/physics.md say? Each stands here once, on plain numbers.

The event loop, the planner, the simulator's bounds and the fallback policy all call these. ``physics.jit.terms`` has
them compiled. Sections are those of docs/physics.md.
"""

from __future__ import annotations

SAME_TIME_S = 1e-9
"""What happens within this happens at one moment."""
_OVERDUE = 0.15
_ROUNDING = 1 + 1e-12


def read_s(weights_bytes: float, group_size: int, bytes_per_s: float) -> float:
    """Seconds to read a model's weights ("Residency"): each member of a group reads its share, all at once."""
    return weights_bytes / group_size / bytes_per_s


def member_bytes(weights_bytes: float, group_size: int) -> float:
    """Bytes of the weights on each device that serves the model ("Residency")."""
    return weights_bytes / group_size


def fits(used_bytes: float, more_bytes: float, memory_bytes: float) -> bool:
    """Whether so much more fits into a device's memory; sums of shares are not exact."""
    return used_bytes + more_bytes <= memory_bytes * _ROUNDING


def transfer_s(moved_bytes: float, gbps: float, latency_s: float) -> float:
    """Seconds to bring so much to another node ("Transfer")."""
    return latency_s + moved_bytes * 8.0 / (gbps * 1e9)


def prefill_tokens(prompts: int, prompt_tokens: float, cached_tokens: float, shared_tokens: float) -> float:
    """Tokens that a shard computes ("Prefill").

    Its first prompt computes what is not cached; each further prompt computes what the batch does not share either.
    Each prompt computes one token at least.
    """
    first = max(1.0, prompt_tokens - cached_tokens)
    if prompts == 1:
        return first
    return first + (prompts - 1) * max(1.0, prompt_tokens - max(cached_tokens, shared_tokens))


def reusable_tokens(tokens: float, prompt_tokens: float) -> float:
    """Of so many leading tokens that are cached or shared, those that a prompt can use ("Prefix cache")."""
    return max(0.0, min(tokens, prompt_tokens - 1.0))


def step(decode_slowdown: float, sequences: int, context_slowdown: float, context_tokens: float) -> float:
    """How many times longer than a lone sequence's a step of the batch takes ("Decode").

    :param sequences: that decode in it, one at least.
    :param context_slowdown: for each token of context.
    :param context_tokens: of all sequences in the batch together.
    """
    return 1.0 + decode_slowdown * (sequences - 1) + context_slowdown * context_tokens


def context_tokens(prompts: int, prompt_tokens: float, output_tokens: float) -> float:
    """Tokens of context of so many sequences, in the mean over their decoding ("Decode")."""
    return prompts * (prompt_tokens + 0.5 * output_tokens)


def chunk_tokens(batch_tokens: int, sequences: int, tokens: float) -> float:
    """Tokens of a prompt in one step, beside so many decoding sequences ("Steps")."""
    return max(1.0, min(batch_tokens - sequences, tokens))


def overdue_s(expected_s: float, done_s: float) -> float:
    """Seconds that work is still expected to take, by its estimate and what it has had.

    Work that outlasts its estimate is expected to need a share of the longer of the two still.
    """
    return max(expected_s - done_s, _OVERDUE * max(expected_s, done_s))


def sync_s(finish_s: float, last_finish_s: float) -> float:
    """Seconds that a shard's result waits for the slowest shard ("Shards": the stage ends when the last one ends)."""
    return max(0.0, last_finish_s - finish_s)
