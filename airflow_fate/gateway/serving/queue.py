"""Which request runs next, and when is its model there? A queue before one engine, and the swaps of its models.

A reservation has as many requests in the queue, or at work, as it has sequences; what it asks beyond that waits aside
and joins the queue at its end. Requests start strictly in the order of the queue. So one that needs room for its model
lets nothing pass it while what is in its way drains, none can starve, and none waits for another's surplus.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from airflow_fate.gateway.engines.base import Engine, EngineDied
from airflow_fate.gateway.http.errors import Refusal
from airflow_fate.gateway.serving.residency import ModelState, Residency, Resident, Serve, Swap, Wait
from airflow_fate.gateway.settings import LimitSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SequenceSlot:
    """A request's right to use the engine.

    :param wait_s: time in the queue, its own loads excluded.
    :param load_s: time for which it waited for a load that it caused.
    :param load_end_at: when that ended, Unix seconds; 0 where it caused none.
    """

    resident: Resident
    wait_s: float
    load_s: float
    load_end_at: float


@dataclass(slots=True)
class _Requests:
    """What one reservation has asked.

    :ivar admitted: its requests in the queue or at work.
    :ivar waiting: those that wait until one of these has ended, in order.
    """

    admitted: int = 0
    waiting: deque[object] = field(default_factory=deque)


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
        limits: LimitSettings,
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
        self._limits = limits
        self._by_reservation: dict[str, _Requests] = {}
        self._swap_lock = asyncio.Lock()
        self._moved = asyncio.Event()
        self._swaps: set[asyncio.Task[None]] = set()
        self.queued = 0
        self.running = 0
        engine.on_death = self._died
        engine.on_trouble = self._changed

    @asynccontextmanager
    async def sequence_slot(
        self, model: str, evict_first: Sequence[str], reservation: str, sequences: int
    ) -> AsyncIterator[SequenceSlot]:
        """Wait for a slot and for the model, and hold both.

        :param sequences: how many requests of the reservation may have one, or be next to get one.
        :raises LoadFailed: when the model can't be loaded.
        :raises EngineDied: when the engine is known to answer nothing.
        :raises Refusal: when too many wait already.
        """
        arrived_s = time.monotonic()
        requests, ticket = self._requests_of(reservation, sequences), object()
        requests.waiting.append(ticket)
        self.queued += 1
        try:
            try:
                await self._join(requests, ticket, sequences)
                resident, load_s, load_end_at = await self._bring(model, evict_first)
            finally:
                self.queued -= 1
            try:
                yield SequenceSlot(resident, time.monotonic() - arrived_s - load_s, load_s, load_end_at)
            finally:
                self.running -= 1
                self._residency.release(resident, self._clock())
        finally:
            if ticket in requests.waiting:
                requests.waiting.remove(ticket)
            else:
                requests.admitted -= 1
            if not requests.admitted and not requests.waiting:
                del self._by_reservation[reservation]
            self._wake()

    def _requests_of(self, reservation: str, sequences: int) -> _Requests:
        """What a reservation has asked, with room for one request more."""
        if self.queued >= self._limits.queued:
            raise Refusal(503, "fate_busy", f"{self.queued} requests wait for this device already")
        requests = self._by_reservation.setdefault(reservation, _Requests())
        if len(requests.waiting) >= self._limits.queued_of_one:
            raise Refusal(
                429,
                "fate_too_many",
                f"{len(requests.waiting)} requests of this task wait already, and {sequences} at once are worked on",
            )
        return requests

    async def _join(self, requests: _Requests, ticket: object, sequences: int) -> None:
        """Wait until it is the reservation's next, and one of its sequences is free."""
        while requests.waiting[0] is not ticket or requests.admitted >= sequences:
            if self._engine.trouble:
                raise EngineDied(self._engine.trouble)
            await self._move()
        requests.waiting.popleft()
        requests.admitted += 1
        # Whoever is next of the same reservation.
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

    async def _bring(self, model: str, evict_first: Sequence[str]) -> tuple[Resident, float, float]:
        """The model that serves, how long it was loaded for this request, and when that ended."""
        load_s = load_end_at = 0.0
        async with self._swap_lock:
            while True:
                if self._engine.trouble:
                    raise EngineDied(self._engine.trouble)
                if self.running >= self._max_seqs:
                    await self._move()
                    continue
                match self._residency.decide(model, evict_first):
                    case Serve():
                        self.running += 1
                        return self._residency.acquire(model, self._clock()), load_s, load_end_at
                    case Wait():
                        await self._move()
                    case Swap() as swap:
                        started_s = time.monotonic()
                        # Shielded: a load whose request was cancelled goes on, half a load would be lost time.
                        await asyncio.shield(self._begin(model, swap))
                        load_s += time.monotonic() - started_s
                        load_end_at = self._clock()

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
