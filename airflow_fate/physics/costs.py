"""What does each part of a placement cost? One pure function per cost term, in seconds.

The terms follow docs/physics.md, whose sections are named. Each takes plain numbers or, for many places
at once, numpy arrays with one entry per place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import numpy as np
from numpy.typing import NDArray

from airflow_fate.cluster import ModelSpec

Number = float | NDArray[np.float64]
"""A number, or one number per place."""


@dataclass(frozen=True, slots=True)
class CostParts:
    """The seconds between now and the end of a share of a stage, by cause."""

    wait_s: float = 0.0
    load_s: float = 0.0
    transfer_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    sync_s: float = 0.0

    @property
    def total_s(self) -> float:
        return float(sum(astuple(self)))

    def as_dict(self) -> dict[str, float]:
        return {
            "wait": self.wait_s,
            "load": self.load_s,
            "transfer": self.transfer_s,
            "prefill": self.prefill_s,
            "decode": self.decode_s,
            "sync": self.sync_s,
        }


@dataclass(frozen=True)
class CostModel:
    """Calibration: how the speeds in the fleet's description relate to the measured ones.

    :param prefill_factor: (gpu, model) -> measured over described prefill speed; 1 where absent.
    :param decode_factor: likewise for decoding.
    :param load_factor: likewise for loading.
    :param output_factor: model -> measured over expected output tokens.
    """

    prefill_factor: Mapping[tuple[str, str], float] = field(default_factory=dict)
    decode_factor: Mapping[tuple[str, str], float] = field(default_factory=dict)
    load_factor: Mapping[tuple[str, str], float] = field(default_factory=dict)
    output_factor: Mapping[str, float] = field(default_factory=dict)

    def prefill_tps(self, model: ModelSpec, gpu: str) -> float:
        """Prompt tokens per second."""
        return model.prefill_tps[gpu] * self.prefill_factor.get((gpu, model.name), 1.0)

    def decode_tps(self, model: ModelSpec, gpu: str) -> float:
        """Output tokens per second of a lone sequence."""
        return model.decode_tps[gpu] * self.decode_factor.get((gpu, model.name), 1.0)

    def read_s(self, model: ModelSpec, gpu: str, in_host_memory: bool) -> float:
        """Seconds to read the weights onto an idle place.

        Every member of a group reads its share of the weights, all at once.
        """
        described = model.host_bytes_per_s if in_host_memory else model.disk_bytes_per_s
        rate = described * self.load_factor.get((gpu, model.name), 1.0)
        return model.weights_bytes / model.group_size / rate

    def output_tokens(self, model_name: str, expected_tokens: int) -> float:
        return expected_tokens * self.output_factor.get(model_name, 1.0)


def load_s(start_s: Number, gate_s: Number, read_s: Number) -> Number:
    """Seconds from ``start_s`` until the model can be used ("Residency": loads on one device go one after another).

    :param gate_s: when the loads before it end; for a model that is there or on its way, when it is ready.
    :param read_s: seconds to read the weights; 0 for a model that is there or on its way.
    """
    seconds: Number = np.maximum(0.0, gate_s - start_s) + read_s
    return seconds


def transfer_s(output_bytes: float, gbps: float, latency_s: float) -> float:
    """Seconds to bring one parent's output to another node ("Transfer")."""
    return latency_s + output_bytes * 8 / (gbps * 1e9)


def shown_s(transfer_s: Number, load_s: Number) -> Number:
    """Seconds of a transfer that a load, which goes on meanwhile, does not hide."""
    seconds: Number = np.maximum(0.0, transfer_s - load_s)
    return seconds


def wait_s(now: float, start_s: Number, lane_free_s: Number, load_s: Number, transfer_s: Number) -> Number:
    """Seconds in which the stage makes no progress: no room for its sequences, or the prefill lane is taken.

    Loading and transferring go on while the lane is busy, so only what they do not hide counts ("Prefill": one lane
    per device, in the order in which shards become able to start).
    """
    seconds: Number = np.maximum(start_s - now, lane_free_s - now - load_s - transfer_s)
    return seconds


def prefill_tokens(prompts: int, prompt_tokens: int, cached_tokens: Number, shared_tokens: int) -> Number:
    """Tokens that a shard computes ("Prefill"): the first prompt what is not cached, each further one what the batch
    does not share either, and always at least one."""
    first: Number = np.maximum(1.0, prompt_tokens - cached_tokens)
    if prompts == 1:
        return first
    further: Number = np.maximum(1.0, prompt_tokens - np.maximum(cached_tokens, shared_tokens))
    return first + (prompts - 1) * further


def prefill_s(tokens: Number, prefill_tps: Number) -> Number:
    """Seconds to compute the prompt's tokens ("Prefill")."""
    return tokens / prefill_tps


def decode_s(output_tokens: float, decode_tps: Number, slowdown: float, sequences: Number) -> Number:
    """Seconds to decode while ``sequences``, its own included, share the device ("Decode")."""
    return output_tokens / decode_tps * (1 + slowdown * (sequences - 1))


def sync_s(finish_s: float, last_finish_s: float) -> float:
    """Seconds that a shard's result waits for the slowest shard ("Shards": the stage ends when the last one ends)."""
    return max(0.0, last_finish_s - finish_s)
