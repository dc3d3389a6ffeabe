"""How much is taken in before it is known what it is? A body of bounded size, in bounded time, of bounded parts.

JSON is read at once and nothing else runs meanwhile, so what would take long is refused before.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from airflow_fate.gateway.http.documents import read_object
from airflow_fate.gateway.http.errors import Refusal, invalid
from airflow_fate.gateway.settings import LimitSettings

MOST_PARTS = 250_000
"""Of arrays and objects. Prompts may come as arrays of tokens."""
DEEPEST = 64
HELD_BODIES = 64
"""Requests are held while they wait: not more of them than so many of the largest need."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Intake:
    """Takes the bodies of requests in."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._most_held_bytes = HELD_BODIES * limits.body_bytes
        self._held_bytes = 0
        self._uploads = 0

    @asynccontextmanager
    async def document(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """A request's JSON object, held for as long as it is needed.

        :raises Refusal: when it is too large, too slow, or none.
        """
        held_bytes = 0
        try:
            data = bytearray()
            async for chunk in self._chunks(request, self._limits.body_bytes):
                held_bytes += len(chunk)
                self._held_bytes += len(chunk)
                if self._held_bytes > self._most_held_bytes:
                    raise Refusal(503, "fate_busy", "the requests that wait here take all the room there is for them")
                data += chunk
            yield _read(bytes(data))
        finally:
            self._held_bytes -= held_bytes

    @asynccontextmanager
    async def upload(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """A request's body as it comes.

        :raises Refusal: also while it comes, when it is too large or too slow.
        """
        if self._uploads >= self._limits.uploads:
            raise Refusal(503, "fate_busy", f"{self._uploads} outputs are being stored here already")
        self._uploads += 1
        try:
            yield self._chunks(request, self._limits.upload_bytes)
        finally:
            self._uploads -= 1

    async def _chunks(self, request: Request, most_bytes: int) -> AsyncIterator[bytes]:
        too_large = Refusal(413, "invalid_request_error", f"the body is larger than {most_bytes} bytes")
        too_slow = Refusal(408, "fate_too_slow", f"the body took longer than {self._limits.body_s:g} s")
        if declared_bytes(request) > most_bytes:
            raise too_large
        ends_s = asyncio.get_running_loop().time() + self._limits.body_s
        stream = aiter(request.stream())
        size_bytes = 0
        while True:
            try:
                async with asyncio.timeout_at(ends_s):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise too_slow from None
            if chunk is None:
                return
            size_bytes += len(chunk)
            if size_bytes > most_bytes:
                raise too_large
            yield chunk


def declared_bytes(request: Request) -> int:
    """As large as a request says that its body is; 0 where it doesn't."""
    header = request.headers.get("content-length", "")
    return int(header[:20]) if header.isascii() and header.isdecimal() else 0


def _read(data: bytes) -> dict[str, Any]:
    try:
        if _parts(data) > MOST_PARTS:
            raise ValueError(f"JSON of more than {MOST_PARTS} parts")
        text = data.decode()
        document = read_object(text)
        _check_depth(document)
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise invalid(f"the request's body must be Unicode text: {error}") from error
    except ValueError as error:
        raise invalid(f"the request's body must be a JSON object: {error}") from error
    return document


def _parts(data: bytes) -> int:
    """At least as many values as the JSON has; exactly looked at only where texts may be what makes them many."""
    marks = (b",", b"[", b"{")
    count = sum(data.count(mark) for mark in marks)
    if count <= MOST_PARTS:
        return count
    bare = _STRING.sub(b"", data)
    return sum(bare.count(mark) for mark in marks)


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"JSON that is nested more than {DEEPEST} deep")
