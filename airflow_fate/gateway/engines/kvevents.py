"""What does vLLM tell of its prefix cache? Its events over ZMQ, where it was started with ``--kv-events-config``.

A message is (topic, sequence number, batch). Where a number is missing, something happened that was not heard: what was
known is forgotten then, for a cache that is believed and isn't there costs more than one that is there and unused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from airflow_fate.gateway.blocks import Blocks

_log = logging.getLogger(__name__)


async def follow(url: str, blocks: Blocks, on_gone: Callable[[], None]) -> NoReturn:
    """Keep the blocks as the events say, until cancelled.

    :param url: of the publisher, such as ``tcp://10.0.0.7:5557``.
    :param on_gone: called when blocks went.
    """
    import msgspec
    import zmq
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(url)
        expected = -1
        while True:
            _, number, payload = await socket.recv_multipart()
            heard = int.from_bytes(number, "big")
            if heard != expected:
                if expected >= 0:
                    _log.warning("events of the prefix cache were missed; what it holds is unknown until told anew")
                blocks.clear()
            expected = heard + 1
            try:
                gone = sum(blocks.apply(event) for event in msgspec.msgpack.decode(payload)[1])
                if gone:
                    on_gone()
            except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
                _log.warning("an event of the prefix cache makes no sense: %r", error)
                blocks.clear()
            # A burst of events must not hold up answers.
            await asyncio.sleep(0)
