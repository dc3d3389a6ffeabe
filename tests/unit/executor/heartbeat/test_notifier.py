"""Ends of reservations reach their gateways, whatever others do, and telling never keeps a heartbeat waiting."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest

from airflow_fate.executor.heartbeat import notifier as module
from airflow_fate.executor.heartbeat.notifier import SUBJECT, EndNotifier
from airflow_fate.messages import FLEET_AUDIENCE, verify
from tests.unit.executor.builders import SECRET

LIMIT_S = 10.0
NOBODY = "http://127.0.0.1:1"


@dataclass
class Gateway:
    """Notes what it is told; answers only when it may."""

    url: str = ""
    status: int = 204
    posts: Queue[tuple[str, str]] = field(default_factory=Queue)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def next(self) -> tuple[str, str]:
        """The next path and token that it was told."""
        return self.posts.get(timeout=LIMIT_S)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    gateway.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            gateway.posts.put((self.path, self.headers["Authorization"].removeprefix("Bearer ")))
            gateway.may_answer.wait(LIMIT_S)
            self.send_response(gateway.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield gateway
    gateway.may_answer.set()
    server.shutdown()
    server.server_close()


@contextmanager
def notifying() -> Iterator[EndNotifier]:
    notifier = EndNotifier()
    notifier.start()
    try:
        yield notifier
    finally:
        notifier.stop()


def test_every_gateway_of_a_reservation_is_told_with_the_executors_token(gateway: Gateway) -> None:
    with notifying() as notifier:
        notifier.ended([gateway.url, gateway.url], "r1", SECRET)
        paths, tokens = zip(gateway.next(), gateway.next(), strict=True)
    assert set(paths) == {"/fate/v1/reservations/r1/end"}
    assert verify(tokens[0], SECRET, (FLEET_AUDIENCE,)).sub == SUBJECT


def test_a_gateway_is_told_why_in_mid_answer(gateway: Gateway) -> None:
    with notifying() as notifier:
        notifier.ended([gateway.url], "r1", SECRET, "a & b")
        assert gateway.next()[0] == "/fate/v1/reservations/r1/end?why=a+%26+b"


def test_a_dead_gateway_does_not_keep_the_others_from_being_told(gateway: Gateway) -> None:
    with notifying() as notifier:
        notifier.ended([NOBODY, gateway.url], "r1", SECRET)
        assert gateway.next()[0].endswith("/r1/end")


@pytest.mark.parametrize(
    ("url", "secret"),
    [(NOBODY, "too short"), ("not a url", SECRET)],
    ids=["a key that signs nothing", "an address that is none"],
)
def test_what_can_not_be_told_at_all_ends_nothing(gateway: Gateway, url: str, secret: str) -> None:
    with notifying() as notifier:
        notifier.ended([url], "r1", secret)
        notifier.ended([gateway.url], "r2", SECRET)
        assert gateway.next()[0].endswith("/r2/end")


def test_a_gateway_that_refuses_is_not_asked_again(gateway: Gateway) -> None:
    gateway.status = 500
    with notifying() as notifier:
        notifier.ended([gateway.url], "r1", SECRET)
        notifier.ended([gateway.url], "r2", SECRET)
        assert {gateway.next()[0][-7:-4], gateway.next()[0][-7:-4]} == {"/r1", "/r2"}
    assert gateway.posts.empty()


def test_telling_does_not_wait_for_a_gateway_that_hangs(gateway: Gateway) -> None:
    gateway.may_answer.clear()
    with notifying() as notifier:
        notifier.ended([gateway.url], "r1", SECRET)
        gateway.next()
        began_s = time.monotonic()
        notifier.ended([gateway.url], "r2", SECRET)
        # Far less than the gateway would take, with room for a busy machine.
        assert time.monotonic() - began_s < LIMIT_S / 2
        gateway.may_answer.set()
        assert gateway.next()[0].endswith("/r2/end")


def test_gateways_that_hang_keep_no_other_waiting(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are connected to, and never answer: a listener that accepts nobody."""
    monkeypatch.setattr(module, "TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent, notifying() as notifier:
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}"
        notifier.ended([hanging] * 20, "r1", SECRET)
        notifier.ended([gateway.url], "r2", SECRET)
        began_s = time.monotonic()
        assert gateway.next()[0].endswith("/r2/end")
        # One after the other, each would take its whole time.
        assert time.monotonic() - began_s < 20 * module.TIMEOUT_S / 2


def test_a_gateway_that_drips_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    given_up = threading.Event()

    def drip() -> None:
        connection, _ = dripping.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not given_up.wait(0.05):
                connection.sendall(b"X-More: 1\r\n")

    with socket.create_server(("127.0.0.1", 0)) as dripping:
        threading.Thread(target=drip, daemon=True).start()
        with notifying() as notifier:
            notifier.ended([f"http://127.0.0.1:{dripping.getsockname()[1]}"], "r1", SECRET)
            notifier.ended([gateway.url], "r2", SECRET)
            assert gateway.next()[0].endswith("/r2/end")
        given_up.set()


def test_more_than_can_wait_is_left_to_newer_tokens(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 2)
    notifier = EndNotifier()
    # Nobody takes anything out yet: it was not started.
    notifier.ended([gateway.url] * 5, "r1", SECRET)
    notifier.start()
    for _ in range(2):
        gateway.next()
    notifier.stop()
    assert gateway.posts.empty()


def test_it_stops_once_all_is_told(gateway: Gateway) -> None:
    notifier = EndNotifier()
    notifier.start()
    notifier.ended([gateway.url], "r1", SECRET)
    notifier.stop()
    assert gateway.next()[0].endswith("/r1/end")
    assert "fate-end-notifier" not in {thread.name for thread in threading.enumerate()}


def test_stopping_what_was_never_started_is_nothing() -> None:
    EndNotifier().stop()
