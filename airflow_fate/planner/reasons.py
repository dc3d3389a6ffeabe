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
class Told:
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


def why_assigned(told: Told) -> str:
    where = ", ".join(f"{place} ({prompts} prompts)" for place, prompts in told.where)
    if len(told.where) == 1:
        where = told.place
    facts = ["model is resident" if told.resident else f"loads the model in {told.load_s:.1f} s"]
    if told.evict:
        facts.append("evicts " + ", ".join(f"{model} from {place}" for place, model in told.evict))
    facts.append(_cached(told))
    return f"{where}: {', '.join(facts)}; {_rival(told)}"


def why_held(told: Told) -> str:
    has = _cached(told) if told.cached_tokens else ("its model ready" if told.resident else "the earliest end")
    has = f"which has {has}" if told.cached_tokens or told.resident else f"which promises {has}"
    waits = f"waits for {told.place}, {has} and is free in {told.start_s:.1f} s"
    if told.rival is None:
        return f"{waits}: no other place is free for it"
    if told.rival.later_s < 0:
        return f"{waits}: {told.rival.place} would end {-told.rival.later_s:.1f} s earlier, at the cost of others"
    return f"{waits}: saves {told.rival.later_s:.1f} s against {told.rival.place}"


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


def _cached(told: Told) -> str:
    return f"{told.cached_tokens:,} of its {told.prompt_tokens:,} prompt tokens cached"


def _rival(told: Told) -> str:
    if told.rival is None:
        return "no other place can serve it"
    if told.rival.later_s < 0:
        return f"{told.rival.place} would end {-told.rival.later_s:.1f} s earlier, at the cost of others"
    return f"next best {told.rival.place} would end {told.rival.later_s:.1f} s later"
