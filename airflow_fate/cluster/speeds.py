"""By which name of a GPU do models list their speeds, and what if by none?

A driver, a node's label and a person spell one GPU in three ways; models name the speeds that somebody has measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_fate.cluster.fleet import Fleet, ModelSpec


def best_name(spellings: Sequence[str], models: Iterable[ModelSpec]) -> str:
    """The spelling under which most of the models have speeds; the first one where that decides nothing."""
    asked = tuple(models)
    return max(spellings, key=lambda gpu: sum(model.has_speeds(gpu) for model in asked))


def without_speeds(fleet: Fleet, model_name: str) -> str | None:
    """Why a model that the fleet serves has speeds nowhere in it; None where it has, or where nobody serves it."""
    model = fleet.models[model_name]
    leaders = [members[0] for place in fleet.places if len(members := fleet.members(place)) == model.group_size]
    serving = [device for device in leaders if device.serves is None or model_name in device.serves]
    if not serving or any(model.has_speeds(device.gpu) for device in serving):
        return None
    seen = sorted({f"{device.gpu} ({device.also} to its gateway)" if device.also else device.gpu for device in serving})
    known = sorted(model.prefill_tps.keys() & model.decode_tps.keys())
    return f"{model_name} has no speeds for {', '.join(seen)}; those known are for {', '.join(known) or 'none'}"
