"""A time that passes from one awaited moment to the next: whoever sleeps in it waits for nobody's clock."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from typing import Any

_TURNS = 20
"""So often the event loop goes round until all have come to their next moment."""


class Steps:
    """Simulated seconds.

    :ivar now_s: the time; it stands still while anybody has something to do.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s
        self._wakers: list[tuple[float, int, asyncio.Event]] = []
        self._number = itertools.count()

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            awake = asyncio.Event()
            heapq.heappush(self._wakers, (self.now_s + seconds, next(self._number), awake))
            await awake.wait()

    async def run(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        """Let time pass until all of it is done; its results."""
        tasks = [asyncio.create_task(each) for each in work]
        while not all(task.done() for task in tasks):
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._wakers and not all(task.done() for task in tasks):
                self.now_s, _, awake = heapq.heappop(self._wakers)
                awake.set()
        return [task.result() for task in tasks]
