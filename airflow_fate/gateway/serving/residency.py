"""Which models are on this device, and which must go before another can come? A pure state machine.

A model's memory counts from the decision to load it until its engine has really gone, so that no order of events puts
more on the device than fits. A model that serves is never chosen to go; who needs its room waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class ModelState(StrEnum):
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


@dataclass(slots=True, eq=False)
class Resident:
    """One stay of a model on the device; a reloaded model is another stay."""

    model: str
    state: ModelState
    since_s: float
    last_used_s: float
    serving: int = 0


@dataclass(frozen=True, slots=True)
class Serve:
    """The model is ready."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done until something changes: a load ends, or a model stops serving."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Unload these, then load the model."""

    victims: tuple[str, ...]


class Residency:
    """The models of one device.

    :param memory_bytes: room for weights.
    :param weights_bytes: model -> its weights on this device.
    :param pinned: models that never go: their engine has them by itself.
    """

    def __init__(
        self, memory_bytes: float, weights_bytes: Mapping[str, float], pinned: frozenset[str] = frozenset()
    ) -> None:
        self._memory_bytes = memory_bytes
        self._pinned = pinned
        self._weights_bytes = weights_bytes
        self.residents: dict[str, Resident] = {}
        self.loads = 0

    def knows(self, model: str) -> bool:
        return model in self._weights_bytes

    def memory_bytes_for(self, model: str) -> float:
        """What all models that may go can leave to this one."""
        return self._memory_bytes - sum(self._weights_bytes[name] for name in self._pinned if name != model)

    def fits(self, model: str) -> bool:
        """Whether the model fits on the device beside those that never go."""
        return self._weights_bytes[model] <= self.memory_bytes_for(model)

    @property
    def used_bytes(self) -> float:
        return sum(self._weights_bytes[model] for model in self.residents)

    def decide(self, model: str, evict_first: Iterable[str] = ()) -> Serve | Wait | Swap:
        """What to do for a request. Models in ``evict_first`` go in that order, then the least recently used."""
        if model in self.residents:
            return Serve() if self.residents[model].state is ModelState.READY else Wait()
        preferred = {name: rank for rank, name in enumerate(evict_first)}
        idle = sorted(
            (r for r in self.residents.values() if self._may_go(r)),
            key=lambda r: (preferred.get(r.model, len(preferred)), r.last_used_s),
        )
        missing_bytes = self.used_bytes + self._weights_bytes[model] - self._memory_bytes
        victims = []
        for resident in idle:
            if missing_bytes <= 0:
                break
            victims.append(resident.model)
            missing_bytes -= self._weights_bytes[resident.model]
        return Swap(tuple(victims)) if missing_bytes <= 0 else Wait()

    def begin(self, model: str, victims: Iterable[str], now_s: float) -> None:
        """Act on a ``Swap``: the victims are going, the model is coming."""
        for victim in victims:
            self.begin_unload(victim)
        self.residents[model] = Resident(model, ModelState.LOADING, now_s, now_s)

    def begin_unload(self, model: str) -> bool:
        """Let an idle model go; False when it isn't idle."""
        resident = self.residents.get(model)
        if resident is None or not self._may_go(resident):
            return False
        resident.state = ModelState.UNLOADING
        return True

    def _may_go(self, resident: Resident) -> bool:
        return resident.state is ModelState.READY and not resident.serving and resident.model not in self._pinned

    def loaded(self, model: str, now_s: float) -> None:
        resident = self.residents[model]
        resident.state, resident.since_s, resident.last_used_s = ModelState.READY, now_s, now_s
        self.loads += 1

    def gone(self, model: str) -> None:
        """The model was unloaded, failed to load, or its engine died."""
        self.residents.pop(model, None)

    def acquire(self, model: str, now_s: float) -> Resident:
        """Begin to serve a request on a ready model."""
        resident = self.residents[model]
        resident.serving += 1
        resident.last_used_s = now_s
        return resident

    def release(self, resident: Resident, now_s: float) -> None:
        """End of that request, also when its model died meanwhile."""
        resident.serving -= 1
        resident.last_used_s = now_s
