"""What comes next, and what has been? The events to come, by time, and the log of those that were."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

SAME_TIME_S = 1e-9
"""What is this close together happens at the same time."""


class Clock:
    """Events at the same time come in the order in which they were foreseen."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._coming: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()
        self._log: list[dict[str, Any]] = []

    @property
    def next_s(self) -> float:
        """When the next event comes; infinite where none does."""
        return self._coming[0][0] if self._coming else float("inf")

    def at(self, t_s: float, happen: Callable[..., None], *about: Any) -> None:
        heappush(self._coming, (t_s, next(self._number), happen, about))

    def go_to(self, t_s: float) -> None:
        """Let everything happen that comes until then, and what comes of it at the same time."""
        self.now_s = max(self.now_s, t_s)
        while self.next_s <= t_s + SAME_TIME_S:
            _, _, happen, about = heappop(self._coming)
            happen(*about)

    def note(self, event: str, t_s: float | None = None, **fields: Any) -> None:
        """Write an event into the log, as one of now or of another time."""
        self._log.append({"t": self.now_s if t_s is None else t_s, "event": event, **fields})

    def log(self) -> list[dict[str, Any]]:
        """By time; what was at the same time, as it came."""
        return sorted(self._log, key=lambda event: event["t"])
