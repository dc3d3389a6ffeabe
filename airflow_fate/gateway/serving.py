"""Which request runs next, and when is its model there? A FIFO queue before one engine, and the swaps of its models.

Requests start strictly in the order in which they came. So one that needs room for its model lets nothing pass it while
what is in its way drains, and none can starve.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from airflow_fate.gateway.engines.base import Engine, EngineDied
from airflow_fate.gateway.residency import ModelState, Residency, Resident, Serve, Swap, Wait

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """A request's right to use the engine.

    :param wait_s: time in the queue, its own loads excluded.
    :param load_s: time for which it waited for a load that it caused.
    """

    resident: Resident
    wait_s: float
    load_s: float


class Serving:
    """Hands the engine out.

    :param on_change: called when residency changed.
    :param on_loaded: called with a model when it serves.
    :param on_gone: called with a model when its engine, and so its cache, is gone.
    """

    def __init__(
        self,
        engine: Engine,
        residency: Residency,
        max_seqs: int,
        *,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        on_loaded: Callable[[str], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._residency = residency
        self._clock = clock
        self._on_change = on_change
        self._on_loaded = on_loaded
        self._on_gone = on_gone
        self._max_seqs = max_seqs
        self._turn = asyncio.Lock()
        self._moved = asyncio.Event()
        self._swaps: set[asyncio.Task[None]] = set()
        self.queued = 0
        self.running = 0
        engine.on_death = self._died
        engine.on_trouble = self._changed

    @asynccontextmanager
    async def seat(self, model: str, evict_first: Sequence[str]) -> AsyncIterator[Seat]:
        """Wait for a slot and for the model, and hold both.

        :raises LoadFailed: when the model can't be loaded.
        :raises EngineDied: when the engine is known to answer nothing.
        """
        arrived_s = time.monotonic()
        self.queued += 1
        try:
            resident, load_s = await self._bring(model, evict_first)
        finally:
            self.queued -= 1
        try:
            yield Seat(resident, time.monotonic() - arrived_s - load_s, load_s)
        finally:
            self.running -= 1
            self._residency.release(resident, self._clock())
            self._wake()

    def prefetch(self, model: str, evict_first: Sequence[str]) -> bool:
        """Begin to load a model ahead of its requests; False when that would have to wait for one that serves."""
        decision = self._residency.decide(model, evict_first)
        if isinstance(decision, Swap):
            self._begin(model, decision)
        return not isinstance(decision, Wait) or model in self._residency.residents

    def evict(self, model: str) -> bool:
        """Begin to unload a model; False when it serves or loads."""
        if model not in self._residency.residents:
            return True
        if not self._residency.begin_unload(model):
            return False
        self._spawn(self._unload(model))
        self._on_change()
        return True

    async def close(self) -> None:
        for swap in self._swaps:
            swap.cancel()
        await asyncio.gather(*self._swaps, return_exceptions=True)
        await self._engine.close()

    async def _bring(self, model: str, evict_first: Sequence[str]) -> tuple[Resident, float]:
        load_s = 0.0
        async with self._turn:
            while True:
                if self._engine.trouble:
                    raise EngineDied(self._engine.trouble)
                if self.running >= self._max_seqs:
                    await self._move()
                    continue
                match self._residency.decide(model, evict_first):
                    case Serve():
                        self.running += 1
                        return self._residency.acquire(model, self._clock()), load_s
                    case Wait():
                        await self._move()
                    case Swap() as swap:
                        started_s = time.monotonic()
                        # Shielded: a load whose request was cancelled goes on, half a load would be lost time.
                        await asyncio.shield(self._begin(model, swap))
                        load_s += time.monotonic() - started_s

    def _begin(self, model: str, swap: Swap) -> asyncio.Task[None]:
        self._residency.begin(model, swap.victims, self._clock())
        self._on_change()
        return self._spawn(self._swap(model, swap.victims))

    async def _swap(self, model: str, victims: Sequence[str]) -> None:
        started_s = time.monotonic()
        try:
            for victim in victims:
                await self._unload(victim)
            await self._engine.load(model)
        except BaseException as error:
            _log.warning("%s not loaded: %s", model, error)
            self._gone(model)
            raise
        _log.info("%s loaded in %.2f s in place of %s", model, time.monotonic() - started_s, victims or "nothing")
        self._residency.loaded(model, self._clock())
        self._on_loaded(model)
        self._changed()

    async def _unload(self, model: str) -> None:
        await self._engine.unload(model)
        self._gone(model)

    def _died(self, model: str) -> None:
        resident = self._residency.residents.get(model)
        # One that is loading or unloading belongs to its swap, which will notice.
        if resident is not None and resident.state is ModelState.READY:
            _log.warning("the engine of %s died", model)
            self._gone(model)

    def _gone(self, model: str) -> None:
        self._residency.gone(model)
        self._on_gone(model)
        self._changed()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._swaps.add(task)
        task.add_done_callback(self._swaps.discard)
        # Whoever waits for the task sees its error; when nobody does, asking for it here keeps the log quiet.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _move(self) -> None:
        """Wait until something has changed."""
        self._moved.clear()
        await self._moved.wait()

    def _changed(self) -> None:
        self._wake()
        self._on_change()

    def _wake(self) -> None:
        self._moved.set()
