"""Which models' weights lie in the node's host memory? What was loaded last, as far as the memory goes. Pure.

The page cache can't be asked; this is the usual guess, and only the time of a load depends on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping


class HostCache:
    """Weights in host memory, least recently loaded first."""

    def __init__(self, host_bytes: float, weights_bytes: Mapping[str, float]) -> None:
        self._host_bytes = host_bytes
        self._weights_bytes = weights_bytes
        self._models: OrderedDict[str, None] = OrderedDict()

    def loaded(self, model: str) -> None:
        self._models[model] = None
        self._models.move_to_end(model)
        while sum(self._weights_bytes[name] for name in self._models) > self._host_bytes:
            self._models.popitem(last=False)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._models)
