"""What does each part of a placement cost? The oracle's own reading of docs/physics.md, in seconds."""

from __future__ import annotations


def load_s(start_s: float, ready_s: float) -> float:
    """Seconds from ``start_s`` until the model can be used."""
    return max(0.0, ready_s - start_s)


def transfer_s(output_bytes: float, gbps: float, latency_s: float) -> float:
    """Seconds to bring one parent's output to another node ("Transfer")."""
    return latency_s + output_bytes * 8 / (gbps * 1e9)


def shown_s(transfer_s: float, load_s: float) -> float:
    """Seconds of a transfer that a load, which goes on meanwhile, does not hide."""
    return max(0.0, transfer_s - load_s)


def wait_s(now: float, start_s: float, prefill_free_s: float, load_s: float, transfer_s: float) -> float:
    """Seconds in which the stage makes no progress: no room for its sequences, or the prefill slot is taken.

    Loading and transferring go on while the slot is busy: only what they do not hide counts ("Prefill").
    """
    return max(start_s - now, prefill_free_s - now - load_s - transfer_s)


def prefill_tokens(prompts: int, prompt_tokens: float, cached_tokens: float, shared_tokens: float) -> float:
    """Tokens that a shard computes ("Prefill"): each prompt what is not there, and always at least one."""
    new = [prompt_tokens - cached_tokens, *[prompt_tokens - max(cached_tokens, shared_tokens)] * (prompts - 1)]
    return sum(max(1.0, tokens) for tokens in new)


def decode_s(output_tokens: float, decode_tps: float, slowdown: float, sequences: int) -> float:
    """Seconds to decode while ``sequences``, its own included, share the device ("Decode")."""
    return output_tokens / decode_tps * (1 + slowdown * (sequences - 1))
