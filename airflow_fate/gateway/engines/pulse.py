"""Does a server live that does not answer in time? Pure.

One that is busy answers late, for half a minute and more; one that is gone refuses connections, which is another
matter. So a silence counts when it lasts, and none does while answers flow.
"""

from __future__ import annotations

MISSES = 3


class Pulse:
    """What was heard of a server."""

    def __init__(self) -> None:
        self._misses = 0
        self._flows = False

    def flows(self) -> None:
        """A part of an answer has come."""
        self._flows = True

    def answered(self) -> None:
        """It has said that it lives."""
        self._misses, self._flows = 0, False

    def missed(self) -> bool:
        """It has not said in time that it lives; whether it counts as gone."""
        self._misses = 0 if self._flows else self._misses + 1
        self._flows = False
        return self._misses >= MISSES
