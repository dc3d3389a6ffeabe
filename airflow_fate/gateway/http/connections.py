"""Who may hold a connection, and for how long? Whoever asks, reads, and lets others ask.

uvicorn limits none of it: a half request stays for ever, and when the process has no file left for one more, nobody is
heard any more. Here a head has a size and a time, who reads nothing is cut off, and when all connections are taken the
one that asks for nothing for longest makes room.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_fate.gateway.settings import LimitSettings

HEAD_BYTES = 64 * 1024
"""A token lists the fences that are live on its device, and the chain of its prompts."""
OWN_FILES = 64
"""For the fleet's folder, the engine's pipes, Kubernetes."""
LOOKED_AT = 4
"""So many times asyncio accepts a whole backlog until the first one of it can be closed again."""
ENOUGH_FILES = 4096
SWEEP_S = 0.5
DISCARD_S = 1.0
DISCARD_BYTES = 32 * 2**20
"""What comes of a body after its request was answered is thrown away, so that the sender gets to read the answer."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a process has files for.

    :param most: at once.
    :param backlog: that may come before the first of them is looked at.
    """

    most: int = 1024
    backlog: int = 128

    @classmethod
    def of(cls, files: int) -> ConnectionLimits:
        """What so many open files are enough for."""
        backlog = max(1, min(cls().backlog, files // 16))
        # Each may need another one to the engine, or to what it stores.
        return cls(max(1, min(cls().most, (files - LOOKED_AT * backlog - OWN_FILES) // 2)), backlog)


def find_connection_limits() -> ConnectionLimits:
    """Those of this process, after its limit of open files was raised as far as it may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = ENOUGH_FILES if most == resource.RLIM_INFINITY else min(most, ENOUGH_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return ConnectionLimits.of(files)


class Connection(H11Protocol):
    """One client."""

    limits: ClassVar[LimitSettings]
    most: ClassVar[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.free_since_s = time.monotonic()
        """When it began to ask for something; counts while it ``is_free``."""
        self._stuck_since_s: float | None = None
        """Since when more waits to be sent than there is room for."""
        self._closing_since_s: float | None = None
        self._discarded_bytes: int | None = None
        """Of the body that nobody reads any more; None while somebody does."""

    @property
    def is_free(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            free = [
                connection
                for connection in _ours(self.connections)
                if connection.is_free and not connection.transport.is_closing()
            ]
            min(free, key=lambda connection: connection.free_since_s, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._discarded_bytes is None:
            super().data_received(data)
            return
        self._discarded_bytes += len(data)
        if self._discarded_bytes > DISCARD_BYTES:
            self.transport.abort()

    def on_response_complete(self) -> None:
        self.free_since_s = time.monotonic()
        if self.conn.their_state is not h11.SEND_BODY or self.transport.is_closing():
            super().on_response_complete()
            return
        self._discarded_bytes = 0
        self.flow.resume_reading()
        # It may be gone already, and the loop will notice soon.
        with suppress(OSError):
            self.transport.write_eof()
        self.loop.call_later(DISCARD_S, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        if self.is_free:
            super().send_400_response(msg)
        else:
            # What follows on a request that is being answered is no request: nobody is there to read an answer to it.
            self.transport.abort()

    def pause_writing(self) -> None:
        self._stuck_since_s = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stuck_since_s = None
        super().resume_writing()

    def check(self, now_s: float) -> None:
        """Cut it off if it asks too slowly, or doesn't read."""
        if self.transport.is_closing() and self._closing_since_s is None:
            self._closing_since_s = now_s
        free_s = self.limits.unread_s if self.transport.get_write_buffer_size() else self.limits.head_s
        if (
            (self.is_free and now_s - self.free_since_s > free_s)
            or (self._stuck_since_s is not None and now_s - self._stuck_since_s > self.limits.unread_s)
            or (self._closing_since_s is not None and now_s - self._closing_since_s > self.limits.unread_s)
        ):
            self.transport.abort()


def limited(limits: LimitSettings, most: int) -> type[Connection]:
    """Connections with these limits, for uvicorn to make.

    :param most: how many there may be at once.
    """

    class Limited(Connection):
        pass

    Limited.limits, Limited.most = limits, most
    return Limited


async def sweep(connections: Collection[Any]) -> None:
    """For ever: look after all connections."""
    while True:
        now_s = time.monotonic()
        for connection in _ours(connections):
            connection.check(now_s)
        await asyncio.sleep(SWEEP_S)


def _ours(connections: Collection[Any]) -> list[Connection]:
    return [connection for connection in connections if isinstance(connection, Connection)]
