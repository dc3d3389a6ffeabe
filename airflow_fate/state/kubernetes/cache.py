"""Which objects of one kind are there now? A list, then a watch that goes on where the last ended, then a new list.

A new list is made when the server forgot our version, and every few minutes anyway: a watch can be alive and silent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from airflow_fate.kube.api import Api, ApiTrouble, Gone, Object

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Who is told. Neither method may raise."""

    def replace(self, items: tuple[Object, ...]) -> None:
        """These are all that there are."""

    def put(self, item: Object) -> None:
        """This one is new or has changed."""

    def drop(self, item: Object) -> None:
        """This one is gone."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When to give up and when to ask again, in seconds.

    :param watch_s: the server ends a watch after so long.
    :param silence_s: a watch that lasts longer than it may is on a connection that is half-open.
    :param relist_s: everything is listed anew after so long.
    :param pause_s: the first pause after a trouble; it doubles with each further one, up to ``longest_pause_s``.
    """

    watch_s: int = 30
    silence_s: float = 40.0
    relist_s: float = 300.0
    pause_s: float = 0.25
    longest_pause_s: float = 15.0


@dataclass(slots=True)
class Cache:
    """Follows one collection for ever.

    :param path: of the collection.
    """

    api: Api
    path: str
    query: Mapping[str, str]
    sink: Sink
    timing: Timing = field(default_factory=Timing)
    clock: Callable[[], float] = time.monotonic
    trouble: str = ""
    """Why it is not followed now; empty while it is."""
    _failures: int = 0

    async def follow(self) -> NoReturn:
        """Until cancelled."""
        while True:
            try:
                await self._list_and_watch()
            except Gone as error:
                _log.info("%s is listed anew: %s", self.path, error)
                await self._pause()
            except ApiTrouble as error:
                if not self.trouble:
                    _log.warning("%s can't be watched, its last state is kept: %s", self.path, error)
                self.trouble = str(error)
                await self._pause()

    async def _list_and_watch(self) -> None:
        listing = await self.api.list(self.path, self.query)
        self.sink.replace(listing.items)
        if self.trouble:
            _log.warning("%s can be watched again", self.path)
        self.trouble = ""
        version, listed_at = listing.version, self.clock()
        while self.clock() < listed_at + self.timing.relist_s:
            began_at, before = self.clock(), version
            version = await self._watch(version)
            if version == before and self.clock() < began_at + self.timing.watch_s / 2:
                # A server that hangs up at once must not make us spin.
                await self._pause()
            else:
                self._failures = 0

    async def _watch(self, version: str) -> str:
        """One watch; the version from which the next goes on."""
        timing = self.timing
        events = self.api.watch(self.path, self.query, version, timing.watch_s, timing.silence_s)
        async with aclosing(events):
            async for event in events:
                version = event.version
                if event.kind == "DELETED":
                    self.sink.drop(event.item)
                elif event.kind != "BOOKMARK":
                    self.sink.put(event.item)
        return version

    async def _pause(self) -> None:
        longest_s = min(self.timing.longest_pause_s, self.timing.pause_s * 2 ** min(self._failures, 16))
        self._failures += 1
        await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))
