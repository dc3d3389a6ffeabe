"""How long does a stage take on an average place? The yardstick for ranks, needs and the price of deferring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_fate.cluster import Fleet
from airflow_fate.physics import CostModel
from airflow_fate.workflow import Stage


@dataclass(frozen=True)
class Pace:
    """Mean seconds per token of every model, over the places that can serve it."""

    per_prompt_token_s: dict[str, float] = field(default_factory=dict)
    per_output_token_s: dict[str, float] = field(default_factory=dict)

    def stage_s(self, stage: Stage) -> float:
        """Seconds on an idle average place with nothing cached; a stage that nothing can serve counts nothing."""
        if not stage.is_llm:
            return stage.duration_s
        prefill_s = stage.prompts * stage.prompt_tokens * self.per_prompt_token_s.get(stage.model, 0.0)
        return prefill_s + stage.expected_output_tokens * self.per_output_token_s.get(stage.model, 0.0)


def pace(fleet: Fleet, costs: CostModel, places: Iterable[str]) -> Pace:
    prompt: dict[str, list[float]] = {}
    output: dict[str, list[float]] = {}
    for place in places:
        gpu = fleet.members(place)[0].gpu
        for model in fleet.models.values():
            if fleet.can_hold(place, model.name):
                prompt.setdefault(model.name, []).append(1 / costs.prefill_tps(model, gpu))
                decode_s = costs.output_tokens(model.name, 1) / costs.decode_tps(model, gpu)
                output.setdefault(model.name, []).append(decode_s)
    return Pace(
        {model: sum(seconds) / len(seconds) for model, seconds in prompt.items()},
        {model: sum(seconds) / len(seconds) for model, seconds in output.items()},
    )
