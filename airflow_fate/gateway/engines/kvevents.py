"""What does vLLM tell of its prefix cache? Its events over ZMQ, where it was started with ``--kv-events-config``.

A message is (topic, sequence number, batch). Where a number is missing, something happened that was not heard: what was
known is forgotten then, for a cache that is believed and isn't there costs more than one that is there and unused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from airflow_fate.gateway.cache.blocks import Blocks, UnknownEvent

_log = logging.getLogger(__name__)


async def follow(url: str, blocks: Blocks, on_gone: Callable[[], None]) -> NoReturn:
    """Keep the blocks as the events say, until cancelled.

    :param url: of the publisher, such as ``tcp://10.0.0.7:5557``.
    :param on_gone: called when blocks went.
    """
    import zmq
    import zmq.asyncio

    reader = EventReader(blocks)
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(url)
        while True:
            if reader.apply(await socket.recv_multipart()):
                on_gone()
            # A burst of events must not hold up answers.
            await asyncio.sleep(0)


class EventReader:
    """Applies the events of one publisher to the blocks."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._expected = -1
        self._unknown: set[str] = set()

    def apply(self, message: Sequence[bytes]) -> bool:
        """Apply a message, whatever it is; whether blocks went."""
        import msgspec

        try:
            _, number, payload = message
            gone = self._follows(int.from_bytes(number, "big"))
            batch = msgspec.msgpack.decode(payload)
            # (time, events, ...) as a list or, as newer versions may send it, a map.
            events = batch["events"] if isinstance(batch, Mapping) else batch[1]
            return any([gone, *(self._applied(event) for event in events)])
        except (msgspec.DecodeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
            _log.warning("a message of the prefix cache makes no sense; what it holds is unknown: %r", error)
            self._blocks.clear()
            return True

    def _follows(self, heard: int) -> bool:
        """Forget everything unless the message is the next one; whether that was so."""
        is_next = heard == self._expected
        if not is_next:
            if self._expected >= 0:
                _log.warning("events of the prefix cache were missed; what it holds is unknown until told anew")
            self._blocks.clear()
        self._expected = heard + 1
        return not is_next

    def _applied(self, event: Any) -> bool:
        try:
            return self._blocks.apply(event)
        except UnknownEvent as error:
            if str(error) not in self._unknown:
                self._unknown.add(str(error))
                _log.debug("events %s of the prefix cache say nothing here", error)
            return False
