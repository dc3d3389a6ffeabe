"""Of what is sent, no more is taken in than may be, and nothing of it stops the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airflow_fate.gateway.http.intake import HELD_BODIES
from tests.unit.gateway.helpers import Bench, bearer, token

PATH = "/v1/chat/completions"
GOOD = b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4%s}'


async def test_a_large_body_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, body_mb=0.001)
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1_000_000:
            sent += 100
            yield b"x" * 100

    headers = bearer(token())
    answer = await bench.client.post(PATH, content=chunks(), headers=headers | {"Content-Length": "1000000"})
    assert (answer.status_code, sent) == (413, 0)
    answer = await bench.client.post(PATH, content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert "larger than 1000 bytes" in answer.json()["error"]["message"]
    assert sent <= 1200, "without a length it is read up to the limit"


async def test_a_slow_body_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, body_s=0.05)
    left = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await left.wait()

    answer = await bench.client.post(PATH, content=chunks(), headers=bearer(token()))
    assert (answer.status_code, answer.json()["error"]["type"]) == (408, "fate_too_slow")


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 1_000_000 + b"0]",
        GOOD % (b', "x": [' + b"[]," * 1_000_000 + b"0]"),
        GOOD % (b', "x": ' + b"[" * 100 + b"]" * 100),
        GOOD % (b', "x": ' + b'{"a":' * 900 + b"0" + b"}" * 900),
        b"[" * 3_000_000,
        b'"' + b'\\"' * 1_500_000,
        GOOD % b', "x": 1e999',
        GOOD % (b', "x": ' + b"9" * 5000),
        GOOD.replace(b"Hi", b"\\ud800") % b"",
        GOOD.replace(b"Hi", b"\xed\xa0\x80") % b"",
        GOOD.replace(b"Hi", b"\xff") % b"",
        (GOOD % b"").decode().encode("utf-16"),
        b"",
        b"null",
    ],
    ids=lambda body: f"{len(body)} {body[:60]!r}",
)
async def test_what_is_no_request_is_the_senders_fault(bench: Bench, body: bytes) -> None:
    answer = await bench.client.post(PATH, content=body, headers=bearer(token()))
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert bench.engine.actions == []


@pytest.mark.parametrize(
    "body",
    [
        GOOD.replace(b"Hi", b"[],{}" * 200_000) % b"",
        GOOD.replace(b"Hi", b"\\ud83d\\ude00") % b"",
        GOOD.replace(b"Hi", "Grüße, 世界".encode()) % b"",
    ],
    ids=["marks in a text", "a pair", "letters"],
)
async def test_any_text_may_be_asked(bench: Bench, body: bytes) -> None:
    assert (await bench.client.post(PATH, content=body, headers=bearer(token()))).status_code == 200


async def test_what_waits_is_bounded_in_bytes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, body_mb=0.001, queued_of_one=1000)
    bench.engine.gate.clear()
    body = GOOD.replace(b"Hi", b"x" * 800) % b""
    fits = HELD_BODIES * 1000 // len(body)

    async def ask() -> int:
        return (await bench.client.post(PATH, content=body, headers=bearer(token()))).status_code

    waiting = [asyncio.create_task(ask()) for _ in range(fits)]
    async with asyncio.timeout(10):
        while bench.gateway.serving.running + bench.gateway.serving.queued < fits:
            await asyncio.sleep(0)
    assert await ask() == 503
    bench.engine.gate.set()
    assert await asyncio.gather(*waiting) == [200] * fits
    assert await ask() == 200
