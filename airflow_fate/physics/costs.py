"""How fast is each model on each GPU, as described and as measured, and what are the parts of a placement's time?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

from airflow_fate.cluster import ModelSpec
from airflow_fate.physics import terms
from airflow_fate.physics.law import Law, Speeds


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
    """What was measured of the speeds in the fleet's description.

    :param laws: (gpu, model) -> the law of the engine, as learned; as described where absent.
    :param slowness: device -> how many times longer it takes than its like; 1 where absent.
    :param load_factor: (gpu, model) -> measured over described speed of loading; 1 where absent.
    :param output_factor: model -> measured over expected output tokens.
    """

    laws: Mapping[tuple[str, str], Law] = field(default_factory=dict)
    slowness: Mapping[str, float] = field(default_factory=dict)
    load_factor: Mapping[tuple[str, str], float] = field(default_factory=dict)
    output_factor: Mapping[str, float] = field(default_factory=dict)

    def speeds(self, model: ModelSpec, gpu: str, decode_slowdown: float) -> Speeds:
        """The model on a device of that GPU like most.

        :param decode_slowdown: the fleet's, where the model has none of its own.
        """
        law = self.laws.get((gpu, model.name))
        return law.speeds if law else described(model, gpu, decode_slowdown)

    def read_s(self, model: ModelSpec, gpu: str, in_host_memory: bool) -> float:
        """Seconds to read the weights onto an idle place."""
        rate = model.host_bytes_per_s if in_host_memory else model.disk_bytes_per_s
        rate *= self.load_factor.get((gpu, model.name), 1.0)
        return terms.read_s(model.weights_bytes, model.group_size, rate)

    def output_tokens(self, model_name: str, expected_tokens: int) -> float:
        return expected_tokens * self.output_factor.get(model_name, 1.0)


def described(model: ModelSpec, gpu: str, decode_slowdown: float) -> Speeds:
    """What the fleet's description says.

    :param decode_slowdown: the fleet's, where the model has none of its own.
    """
    return Speeds(
        model.prefill_tps[gpu],
        model.decode_tps[gpu],
        model.decode_slowdown.get(gpu, decode_slowdown),
        model.context_slowdown.get(gpu, 0.0),
    )
