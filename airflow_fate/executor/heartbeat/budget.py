"""How much of this heartbeat is left? What doesn't fit into it is done in the next one.

A scheduler whose heartbeat stays away for half a minute is taken for dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HEARTBEAT_S = 3.0


class Budget:
    """Time for one heartbeat's work on single tasks.

    :param clock: monotonic seconds.
    """

    def __init__(self, limit_s: float = HEARTBEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self.renew()

    def renew(self) -> None:
        """A heartbeat begins."""
        self._until_s = self._clock() + self._limit_s

    @property
    def is_spent(self) -> bool:
        return self._clock() >= self._until_s
