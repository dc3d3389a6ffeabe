"""Why here, in words for a person?"""

from __future__ import annotations

from airflow_fate.cluster import Fleet
from airflow_fate.planner.choice import Choice, Left

_GB = 1e9


def why_assigned(choice: Choice) -> str:
    where = ", ".join(f"{share.place} ({share.prompts} prompts)" for share in choice.shares)
    if len(choice.shares) == 1:
        where = choice.place
    facts = ["model is resident" if choice.resident else f"loads the model in {choice.shares[0].cost.load_s:.1f} s"]
    if choice.evict:
        facts.append("evicts " + ", ".join(f"{model} from {place}" for place, model in choice.evict))
    facts.append(_cached(choice))
    return f"{where}: {', '.join(facts)}; {_rival(choice)}"


def why_held(choice: Choice, now: float) -> str:
    has = _cached(choice) if choice.cached_tokens else ("its model ready" if choice.resident else "the earliest end")
    has = f"which has {has}" if choice.cached_tokens or choice.resident else f"which promises {has}"
    waits = f"waits for {choice.place}, {has} and is free in {choice.start_s - now:.1f} s"
    if choice.rival is None:
        return f"{waits}: no other place can serve it"
    if choice.rival.later_s < 0:
        return f"{waits}: {choice.rival.place} would end {-choice.rival.later_s:.1f} s earlier, at the cost of others"
    return f"{waits}: saves {choice.rival.later_s:.1f} s against {choice.rival.place}"


def why_left(left: Left, now: float) -> str:
    model = left.queued.demand.model
    if left.until_s == float("inf"):
        return f"no usable place can serve {model} now"
    free = f"the first place for {model} is free in {max(0.0, left.until_s - now):.1f} s"
    return f"behind {left.behind:,} stages in the queue; {free}"


def why_impossible(fleet: Fleet, model_name: str) -> str | None:
    """Why no place, even empty, could ever serve the model; None when one could."""
    if any(fleet.can_hold(place, model_name) for place in fleet.places):
        return None
    model = fleet.models.get(model_name)
    if model is None:
        known = ", ".join(sorted(fleet.models)) or "none"
        return f"unknown model {model_name!r}; known models: {known}"
    size = model.group_size
    fitting = [place for place in fleet.places if len(fleet.members(place)) == size]
    if not fitting:
        return f"{model_name} spans {size} devices, and the fleet has no group of {size}"
    need_gb = model.weights_bytes / size / _GB
    largest_gb = max(min(device.memory_bytes for device in fleet.members(place)) for place in fitting) / _GB
    if need_gb > largest_gb:
        each = " on each of its devices" if size > 1 else ""
        return f"{model_name} needs {need_gb:,.1f} GB{each}; the largest device has {largest_gb:,.1f} GB"
    gpus = ", ".join(sorted({fleet.members(place)[0].gpu for place in fitting}))
    return f"{model_name} has no measured speed on any GPU of the fleet ({gpus})"


def _cached(choice: Choice) -> str:
    demand = choice.queued.demand
    return f"{choice.cached_tokens:,} of its {demand.prompt_tokens:,} prompt tokens cached"


def _rival(choice: Choice) -> str:
    if choice.rival is None:
        return "no other place can serve it"
    if choice.rival.later_s < 0:
        return f"{choice.rival.place} would end {-choice.rival.later_s:.1f} s earlier, at the cost of others"
    return f"next best {choice.rival.place} would end {choice.rival.later_s:.1f} s later"
