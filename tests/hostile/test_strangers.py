"""Without a token nobody takes anything from others."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.hostile.running import FILES, Running, is_cut, running
from tests.until import until


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"], ids=["silence", "head"])
def test_half_requests(gateway: Running, said: bytes) -> None:
    with ExitStack() as stack:
        halves = [stack.enter_context(gateway.connect()) for _ in range(FILES + 50)]
        for half in halves:
            with suppress(OSError):
                half.sendall(said)
        gateway.check()
        assert all(is_cut(half) for half in halves)
        gateway.check()


def test_a_head_without_an_end(gateway: Running) -> None:
    with gateway.connect() as endless, pytest.raises(OSError):  # noqa: PT011
        endless.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 50_000_000)
    gateway.check()


def test_heads_without_an_end_one_after_another(gateway: Running) -> None:
    for _ in range(300):
        with gateway.connect() as endless, suppress(OSError):
            endless.sendall(b"GET /health HTTP/1.1\r\nX: " + b"x" * 200_000)
    gateway.check()


@pytest.mark.parametrize("answered_before", [False, True])
def test_a_head_that_drips(gateway: Running, answered_before: bool) -> None:
    with gateway.connect() as slow:
        if answered_before:
            slow.sendall(gateway.head("/health", "", method="GET"))
            assert slow.recv(1000).startswith(b"HTTP/1.1 204")
        slow.sendall(b"GET /health HTTP/1.1\r\nX: ")
        slow.settimeout(0.1)
        assert _drips_until_cut(slow)
    gateway.check()


@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/health", "/v1/chat/completions", "/fate/v1/artifacts/0123456789abcdef"])
def test_a_body_that_nobody_wants(gateway: Running, path: str, length: str) -> None:
    with gateway.connect() as slow:
        slow.sendall(gateway.head(path, "", length))
        assert slow.recv(1000).startswith((b"HTTP/1.1 401", b"HTTP/1.1 405"))
        slow.settimeout(0.1)
        assert _drips_until_cut(slow)
    gateway.check()


def test_noise(gateway: Running) -> None:
    dice = random.Random(1)
    good = gateway.head("/v1/chat/completions", "a.b.c", "Content-Length: 2") + b"{}"
    for _ in range(2000):
        said = bytearray(good)
        for _ in range(dice.randint(1, 5)):
            at = dice.randrange(len(said))
            said[at : at + dice.randint(0, 4)] = dice.randbytes(dice.randint(0, 4))
        with gateway.connect() as connected, suppress(OSError):
            connected.sendall(said)
            connected.shutdown(socket.SHUT_WR)
            assert not connected.recv(1000).startswith(b"HTTP/1.1 5"), bytes(said)
    gateway.check()


def _drips_until_cut(slow: socket.socket) -> bool:
    def is_over() -> bool:
        try:
            slow.send(b"x")
            return not slow.recv(1000)
        except TimeoutError:
            return False
        except OSError:
            return True

    until(is_over)
    return True
