"""An API server that says what a test tells it to: a few lines of HTTP on loopback, one script for each request."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_fate.kube.credentials import Credentials

Query = dict[str, str]
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def listing(*items: dict[str, Any], version: str = "1", more: str = "") -> Answer:
    return _json(200, {"metadata": {"resourceVersion": version, "continue": more}, "items": list(items)})


def single(item: dict[str, Any]) -> Answer:
    return _json(200, item)


def refused(code: int, message: str = "no") -> Answer:
    return _json(code, {"kind": "Status", "code": code, "message": message})


def watched(*events: tuple[str, dict[str, Any]] | bytes, hang: bool = False) -> Answer:
    """Events, or bytes as they are; then the end of the answer, or silence."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        for event in events:
            line = event if isinstance(event, bytes) else json.dumps({"type": event[0], "object": event[1]}).encode()
            writer.write(line + b"\n")
        await writer.drain()
        if hang:
            await asyncio.Event().wait()

    return answer


def bookmark(version: str) -> tuple[str, dict[str, Any]]:
    return "BOOKMARK", {"metadata": {"resourceVersion": version}}


def versioned(item: dict[str, Any], version: str) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "resourceVersion": version}}


def _json(code: int, content: dict[str, Any]) -> Answer:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {code} Any\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()

    return answer


@dataclass
class FakeServer:
    """Answers lists and watches of each path in the given order; the last answer is repeated."""

    lists: dict[str, list[Answer]] = field(default_factory=dict)
    watches: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, Query]] = field(default_factory=list)
    url: str = ""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what only requests can bring about."""
        async with asyncio.timeout(10):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def queries(self, *, watch: bool) -> list[Query]:
        return [query for _, query in self.asked if ("watch" in query) == watch]

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.url, ssl.create_default_context(), "here", token="t")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = urlsplit(head.split()[1])
            query = {key: values[0] for key, values in parse_qs(target.query).items()}
            self.asked.append((target.path, query))
            self._news.set()
            answers = (self.watches if "watch" in query else self.lists)[target.path]
            await (answers.pop(0) if len(answers) > 1 else answers[0])(writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(fake: FakeServer) -> AsyncIterator[FakeServer]:
    running: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(fake._serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(serve, "127.0.0.1")
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        server.close()
