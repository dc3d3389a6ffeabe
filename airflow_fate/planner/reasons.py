"""Why here, in words for a person?"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.cluster import Fleet, without_speeds

_GB = 1e9


@dataclass(frozen=True, slots=True)
class Rival:
    """The next best place, and how much later the stage would end there."""

    place: str
    later_s: float


@dataclass(frozen=True, slots=True)
class PlacementFacts:
    """What is said of a stage that was placed.

    :param where: (place, prompts)
    :param start_s: seconds until it may be bound.
    :param resident: whether its model is there already or on its way.
    :param cached_tokens: of its first prompt, on its first place.
    """

    where: tuple[tuple[str, int], ...]
    start_s: float
    resident: bool
    load_s: float
    cached_tokens: int
    prompt_tokens: int
    evict: tuple[tuple[str, str], ...]
    rival: Rival | None

    @property
    def place(self) -> str:
        return self.where[0][0]


def why_assigned(facts: PlacementFacts) -> str:
    where = ", ".join(f"{place} ({prompts} prompts)" for place, prompts in facts.where)
    if len(facts.where) == 1:
        where = facts.place
    parts = ["model is resident" if facts.resident else f"loads the model in {facts.load_s:.1f} s"]
    if facts.evict:
        parts.append("evicts " + ", ".join(f"{model} from {place}" for place, model in facts.evict))
    parts.append(_cached(facts))
    return f"{where}: {', '.join(parts)}; {_rival(facts)}"


def why_held(facts: PlacementFacts) -> str:
    has = _cached(facts) if facts.cached_tokens else ("its model ready" if facts.resident else "the earliest end")
    has = f"which has {has}" if facts.cached_tokens or facts.resident else f"which promises {has}"
    waits = f"waits for {facts.place}, {has} and is free in {facts.start_s:.1f} s"
    if facts.rival is None:
        return f"{waits}: no other place is free for it"
    if facts.rival.later_s < 0:
        return f"{waits}: {facts.rival.place} would end {-facts.rival.later_s:.1f} s earlier, at the cost of others"
    return f"{waits}: saves {facts.rival.later_s:.1f} s against {facts.rival.place}"


def why_left(fleet: Fleet, model: str, behind: int, wait_s: float | None) -> str:
    """:param wait_s: until the first place comes free; None when no place is usable."""
    if wait_s is None:
        return why_nowhere(fleet, model) or f"no usable place can serve {model} now"
    free = f"the first place for {model} is free in {max(0.0, wait_s):.1f} s"
    return f"behind {behind:,} stages in the queue; {free}"


def why_impossible(fleet: Fleet, model_name: str) -> str | None:
    """Why no place, even empty, could ever serve the model; None when one could, or may come that can."""
    model = fleet.models.get(model_name)
    if model is None:
        known = ", ".join(sorted(fleet.models)) or "none"
        return f"unknown model {model_name!r}; known models: {known}"
    return why_nowhere(fleet, model_name) if fleet.complete else None


def why_nowhere(fleet: Fleet, model_name: str) -> str | None:
    """Why none of the places that there are, even empty, could serve a known model; None when one could."""
    if any(fleet.can_hold(place, model_name) for place in fleet.places):
        return None
    model = fleet.models[model_name]
    size = model.group_size
    fitting = [place for place in fleet.places if len(fleet.members(place)) == size]
    if not fitting:
        return f"{model_name} spans {size} devices, and the fleet has no group of {size}"
    need_gb = model.weights_bytes / size / _GB
    largest_gb = max(min(device.memory_bytes for device in fleet.members(place)) for place in fitting) / _GB
    if need_gb > largest_gb:
        each = " on each of its devices" if size > 1 else ""
        return f"{model_name} needs {need_gb:,.1f} GB{each}; the largest device has {largest_gb:,.1f} GB"
    if all((serves := fleet.members(place)[0].serves) is not None and model_name not in serves for place in fitting):
        return f"no device serves {model_name}"
    nobody = f"no device serves {model_name}, has room for it and a GPU for which it has speeds"
    return without_speeds(fleet, model_name) or nobody


def _cached(facts: PlacementFacts) -> str:
    return f"{facts.cached_tokens:,} of its {facts.prompt_tokens:,} prompt tokens cached"


def _rival(facts: PlacementFacts) -> str:
    if facts.rival is None:
        return "no other place can serve it"
    if facts.rival.later_s < 0:
        return f"{facts.rival.place} would end {-facts.rival.later_s:.1f} s earlier, at the cost of others"
    return f"next best {facts.rival.place} would end {facts.rival.later_s:.1f} s later"
