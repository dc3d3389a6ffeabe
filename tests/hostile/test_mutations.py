"""Requests that are almost right: a hundred thousand of them, and each is answered with what it is."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from airflow_fate.gateway.http.app import create_app
from airflow_fate.gateway.http.auth import Guard
from airflow_fate.gateway.process import build_gateway
from airflow_fate.gateway.settings import read_settings
from tests.hostile.running import DEVICE, MODEL, SECRET, executor_token, token, write_fleet

COUNT = 100_000
WARM = COUNT // 5
MORE_BYTES = 64e6
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, -1e308, 5e-324),
    *("", "x", "0", "null", "\ud800", "\x00", "a" * 5000, "(" * 200, "🙂", "data: [DONE]\n\n"),
    *([], {}, [[]], [None], [{}], {"": None}, {"\ud800": 1}, [[[[[[]]]]]], {"a": {"a": {"a": {}}}}),
]
RAW = [b"", b"null", b"[" * 2000, b"{" * 2000, b"\xff\xfe", b"\xef\xbb\xbf{}", b"NaN", b'{"a":1e999}', b"9" * 5000]
CHAT = {
    "model": MODEL,
    "max_tokens": 4,
    "temperature": 0.5,
    "top_p": 1,
    "n": 1,
    "stop": ["x"],
    "seed": 1,
    "user": "u",
    "stream": False,
    "stream_options": {"include_usage": True},
    "logprobs": True,
    "top_logprobs": 2,
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "logit_bias": {"1": 5},
}
COMPLETION = {"model": MODEL, "prompt": "Hi", "max_tokens": 4, "n": 1, "stop": "x", "stream": True, "echo": False}
KEY = "0123456789abcdef"
TASK, EXECUTOR = token(), executor_token()
REQUESTS: list[tuple[str, str, str, Any]] = [
    *[("POST", "/v1/chat/completions", TASK, CHAT)] * 8,
    *[("POST", "/v1/completions", TASK, COMPLETION)] * 4,
    ("PUT", f"/fate/v1/artifacts/{KEY}?name=output", TASK, {"a": 1}),
    ("GET", f"/fate/v1/artifacts/{KEY}", EXECUTOR, None),
    ("GET", "/fate/v1/facts", TASK, None),
    ("POST", "/fate/v1/token", TASK, None),
    ("GET", "/fate/v1/report", TASK, None),
    ("GET", "/metrics", TASK, None),
    ("GET", "/v1/models", TASK, None),
    ("POST", "/fate/v1/reservations/gone/end?why=over", EXECUTOR, None),
    ("POST", f"/fate/v1/models/{MODEL}/load", EXECUTOR, None),
    ("POST", f"/fate/v1/models/{MODEL}/unload", EXECUTOR, None),
    ("POST", "/fate/v1/drain?undo=true", EXECUTOR, None),
]


class Mutator:
    """Makes requests that are almost right, always the same ones of one seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def request(self) -> tuple[dict[str, Any], bytes]:
        """An ASGI scope and a body."""
        method, url, bearer, document = self._dice.choice(REQUESTS)
        document = json.loads(json.dumps(document))
        for _ in range(self._dice.choice([0, 1, 1, 1, 2, 5])):
            document = self._changed(document)
        body = b"" if document is None else json.dumps(document).encode()
        headers = {b"authorization": f"Bearer {bearer}".encode()}
        match self._dice.randrange(20):
            case 0:
                body = self._dice.choice(RAW)
            case 1 | 2:
                body = self._noisy(body)
            case 3:
                headers[b"authorization"] = self._noisy(headers[b"authorization"])
            case 4:
                headers[self._dice.choice([b"range", b"content-length", b"content-type", b"host", b"expect"])] = (
                    self._dice.choice([b"bytes=9-1", b"bytes=0-,0-", b"-1", b"9" * 40, b"\xff", b"", b"100-continue"])
                )
            case 5:
                url = self._noisy(url.encode()).decode("latin-1")
            case 6:
                method = self._dice.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X"])
        path, _, query = url.partition("?")
        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "headers": [*headers.items()]}
        return scope | {"raw_path": path.encode(), "query_string": query.encode(), "root_path": ""}, body

    def _changed(self, document: Any) -> Any:
        """With one odd value somewhere in it."""
        if not isinstance(document, dict | list) or not document or self._dice.random() < 0.1:
            return self._odd()
        if isinstance(document, list):
            at = self._dice.randrange(len(document))
            document[at] = self._changed(document[at])
            return document
        name = self._dice.choice([*document])
        match self._dice.randrange(8):
            case 0:
                del document[name]
            case 1:
                document[self._dice.choice(["x", "cache_salt", "grammar", "min_p", "n_predict"])] = self._odd()
            case _:
                document[name] = self._changed(document[name])
        return document

    def _odd(self) -> Any:
        return copy.deepcopy(self._dice.choice(ODD))

    def _noisy(self, data: bytes) -> bytes:
        noisy = bytearray(data)
        for _ in range(self._dice.randint(1, 4)):
            at = self._dice.randrange(len(noisy) + 1)
            noisy[at : at + self._dice.randint(0, 3)] = self._dice.choice([b"", b"%00", self._dice.randbytes(3)])
        return bytes(noisy)


async def _status(app: Any, scope: dict[str, Any], body: bytes) -> int:
    sent: list[dict[str, Any]] = []
    asked = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        for_ever: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        return await for_ever

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_a_hundred_thousand_mutated_requests(tmp_path: Path) -> None:
    write_fleet(tmp_path)
    settings = read_settings(tmp_path, DEVICE)
    gateway = build_gateway(settings)
    app = create_app(gateway, Guard(SECRET, DEVICE))
    mutator, statuses, failed = Mutator(seed=1), Counter[int](), list[Any]()
    memory, warm_bytes = psutil.Process().memory_info, 0
    for number in range(COUNT):
        scope, body = mutator.request()
        try:
            status = await _status(app, dict(scope), body)
        except Exception as error:
            status = 500
            failed.append((repr(error), scope, body))
        statuses[status] += 1
        if number == WARM:
            warm_bytes = memory().rss
        if number % 1000 == 0:
            health = {"type": "http", "method": "GET", "path": "/health", "headers": [], "query_string": b""}
            assert await _status(app, health, b"") == 204
    assert not failed, f"{len(failed)} such as {failed[:3]}"
    assert not [status for status in statuses if status >= 500 and status != 507], statuses
    assert statuses[200] > COUNT / 100, "some of them are right"
    assert memory().rss - warm_bytes < MORE_BYTES
    assert (gateway.serving.running, gateway.serving.queued) == (0, 0)
    await gateway.serving.close()
