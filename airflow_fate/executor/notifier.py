"""Who tells a gateway that a reservation is over? A thread of our own, so that no heartbeat waits for the network.

Best effort: a gateway that doesn't hear it learns from the next token for its device (see ``messages.binding``).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable

import httpx

from airflow_fate.messages import reader_token

log = logging.getLogger(__name__)
TIMEOUT_S = 5.0
WAITING = 1000
SUBJECT = "executor"


class EndNotifier:
    """Posts ends of reservations to gateways."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str, str, str, str] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="fate-end-notifier", daemon=True)
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
                self._queue.put_nowait((url, reservation_id, secret, why))
        except queue.Full:
            log.debug("Too many ends to tell; the gateways will learn from newer tokens")

    def _run(self) -> None:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            while (item := self._queue.get()) is not None:
                url, reservation_id, secret, why = item
                try:
                    headers = {"Authorization": f"Bearer {reader_token(secret, SUBJECT)}"}
                    path = f"/fate/v1/reservations/{reservation_id}/end"
                    client.post(url + path, params={"why": why} if why else None, headers=headers)
                except Exception as error:
                    # Whatever it was, the next end must still be told.
                    log.debug("%s was not told that %s is over: %r", url, reservation_id, error)
