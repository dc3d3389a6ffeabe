"""Who tells a gateway that a reservation is over? A thread of our own, so that no heartbeat waits for the network.

Many gateways are told at once, and each has so long and no longer, however slowly it answers. Best effort: a gateway
that doesn't hear it learns from the next token for its device (see ``messages.binding``).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from airflow_fate.messages import reader_token

log = logging.getLogger(__name__)
TIMEOUT_S = 5.0
AT_ONCE = 64
WAITING = 1000
SUBJECT = "executor"


@dataclass(frozen=True, slots=True)
class _End:
    url: str
    reservation_id: str
    secret: str
    why: str


class EndNotifier:
    """Posts ends of reservations to gateways."""

    def __init__(self) -> None:
        self._queue: queue.Queue[_End | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fate-end-notifier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            try:
                self._queue.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(TIMEOUT_S)

    def ended(self, urls: Iterable[str], reservation_id: str, secret: str, why: str = "") -> None:
        """Tell these gateways soon; never blocks.

        :param why: what the task is told whose answer this breaks off.
        """
        try:
            for url in urls:
                self._queue.put_nowait(_End(url, reservation_id, secret, why))
        except queue.Full:
            log.debug("Too many ends to tell; the gateways will learn from newer tokens")

    async def _run(self) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_connections=AT_ONCE))
        async with client, asyncio.TaskGroup() as posts:
            while (end := await asyncio.to_thread(self._queue.get)) is not None:
                await slots.acquire()
                posts.create_task(_tell(client, end)).add_done_callback(lambda _: slots.release())


async def _tell(client: httpx.AsyncClient, end: _End) -> None:
    try:
        headers = {"Authorization": f"Bearer {reader_token(end.secret, SUBJECT)}"}
        path = f"/fate/v1/reservations/{end.reservation_id}/end"
        async with asyncio.timeout(TIMEOUT_S):
            await client.post(end.url + path, params={"why": end.why} if end.why else None, headers=headers)
    except Exception as error:
        # Whatever it was, the next end must still be told.
        log.debug("%s was not told that %s is over: %r", end.url, end.reservation_id, error)
