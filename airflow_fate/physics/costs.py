"""How fast is each model on each GPU, as described and as measured, and what are the parts of a placement's time?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

from airflow_fate.cluster import ModelSpec
from airflow_fate.physics import terms


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

    def decode_slowdown(self, model: ModelSpec, gpu: str, default: float) -> float:
        """Relative slowdown of decoding for each further sequence.

        :param default: the fleet's, for models of which nothing is known.
        """
        return model.decode_slowdown.get(gpu, default)

    def context_slowdown(self, model: ModelSpec, gpu: str) -> float:
        """Relative slowdown of decoding for each token of context in the batch."""
        return model.context_slowdown.get(gpu, 0.0) / 1000.0

    def read_s(self, model: ModelSpec, gpu: str, in_host_memory: bool) -> float:
        """Seconds to read the weights onto an idle place."""
        described = model.host_bytes_per_s if in_host_memory else model.disk_bytes_per_s
        rate = described * self.load_factor.get((gpu, model.name), 1.0)
        return terms.read_s(model.weights_bytes, model.group_size, rate)

    def output_tokens(self, model_name: str, expected_tokens: int) -> float:
        return expected_tokens * self.output_factor.get(model_name, 1.0)
