"""With a token nobody takes more than is his."""

from __future__ import annotations

import concurrent.futures
import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.hostile.running import Running, executor_token, is_cut, running, token

GB = 10**9
CHAT = "/v1/chat/completions"


def _sent_bytes(connected: socket.socket, part: bytes, most: int) -> int:
    sent = 0
    with suppress(OSError):
        while sent < most:
            sent += connected.send(part)
    return sent


@pytest.mark.parametrize("path", [CHAT, "/fate/v1/artifacts/0123456789abcdef?name=output"])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_body_of_a_gigabyte(tmp_path: Path, path: str, is_told: bool) -> None:
    with running(tmp_path, artifacts_gb=0.02) as gateway, gateway.connect() as large:
        length = f"Content-Length: {GB}" if is_told else "Transfer-Encoding: chunked"
        large.sendall(gateway.head(path, token(), length, method="POST" if path == CHAT else "PUT"))
        part = b"x" * 1_000_000
        part = part if is_told else b"%x\r\n%s\r\n" % (len(part), part)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            sent = pool.submit(_sent_bytes, large, part, GB)
            while not sent.done():
                gateway.check()
                concurrent.futures.wait([sent], timeout=0.2)
        assert sent.result() < GB / 4
        gateway.check()


def test_what_is_too_large_is_said_to_who_is_still_sending(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        answer = httpx.post(
            gateway.url + CHAT,
            content=b"x" * 8_000_000,
            headers={"Authorization": f"Bearer {token()}"},
            trust_env=False,
        )
        assert answer.status_code == 413


@pytest.mark.parametrize(
    ("flood", "size_bytes", "status"),
    [
        *((flood, 3_900_000, 400) for flood in (b"[],", b"[[", b'{"a":', b"0,", b'"",', b'"\\"')),
        (b"[],", 60_000_000, 413),
    ],
    ids=repr,
)
def test_floods(tmp_path: Path, flood: bytes, size_bytes: int, status: int) -> None:
    with running(tmp_path) as gateway:
        body = b'{"messages": [' + flood * (size_bytes // len(flood))
        body += b"0]}" if flood.endswith(b",") else b""

        def send() -> int:
            headers = {"Authorization": f"Bearer {token()}"}
            with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
                return client.post(gateway.url + CHAT, content=body).status_code

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send) for _ in range(8)]
            while not all(task.done() for task in sent):
                gateway.check(more_bytes=300e6)
                concurrent.futures.wait(sent, timeout=0.2)
        assert {task.result() for task in sent} == {status}
        gateway.check(more_bytes=300e6)


def test_a_body_that_drips(tmp_path: Path) -> None:
    with running(tmp_path) as gateway, gateway.connect() as slow:
        slow.sendall(gateway.head(CHAT, token(), "Content-Length: 100") + b"{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        assert is_cut(slow)
        gateway.check()


def test_who_reads_nothing_keeps_no_seat(tmp_path: Path) -> None:
    with running(tmp_path, context_tokens=200_000) as gateway, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", gateway.port))
        body = {"messages": [], "stream": True, "max_tokens": 200_000}
        content = json.dumps(body).encode()
        deaf.sendall(gateway.head(CHAT, token(), f"Content-Length: {len(content)}") + content)
        assert deaf.recv(100, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
        assert gateway.chat(token("r2", 2)).status_code == 200
        gateway.check()


def test_a_stored_output_that_nobody_reads_keeps_no_connection(tmp_path: Path) -> None:
    with running(tmp_path) as gateway, socket.socket() as deaf:
        path = "/fate/v1/artifacts/0123456789abcdef"
        stored = httpx.put(
            f"{gateway.url}{path}?name=output",
            content=b"x" * 50_000_000,
            headers={"Authorization": f"Bearer {token()}"},
            timeout=60,
            trust_env=False,
        )
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", gateway.port))
        deaf.sendall(gateway.head(path, stored.json()["read"], method="GET"))
        assert deaf.recv(100, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
        ended = threading.Event()
        deaf.settimeout(10)
        # Once it is cut off nothing more comes than lies in its own buffers.
        while not ended.wait(0.5):
            if not _has_connection(gateway, deaf.getsockname()[1]):
                ended.set()
        gateway.check()


def _has_connection(gateway: Running, port: int) -> bool:
    import psutil

    connections = psutil.Process(gateway.process.pid).net_connections("tcp")
    return any(connection.raddr and connection.raddr.port == port for connection in connections)


def test_twelve_uploads_at_once_share_one_budget(tmp_path: Path) -> None:
    with running(tmp_path, artifacts_gb=0.02) as gateway:
        folder = tmp_path / "artifacts" / "n"

        def upload(number: int) -> int:
            return httpx.put(
                f"{gateway.url}/fate/v1/artifacts/{number:016x}?name=output",
                content=b"x" * 15_000_000,
                headers={"Authorization": f"Bearer {token(f'r{number}', number)}"},
                timeout=60,
                trust_env=False,
            ).status_code

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            sent = [pool.submit(upload, number) for number in range(1, 13)]
            while not all(task.done() for task in sent):
                assert _on_disk_bytes(folder) < 21_000_000
                concurrent.futures.wait(sent, timeout=0.01)
        assert sorted({task.result() for task in sent}) == [201, 507]
        assert _on_disk_bytes(folder) == 15_000_000
        gateway.check()


def _on_disk_bytes(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            with suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                total += min(stat.st_blocks * 512, stat.st_size) if entry.is_file(follow_symlinks=False) else 0
    return total


def test_two_hundred_requests_of_one_sequence_are_its_own_affair(tmp_path: Path) -> None:
    with running(tmp_path, 2048, decode_tps=40) as gateway, concurrent.futures.ThreadPoolExecutor(201) as pool:
        # A tenth of a second each.
        many = [pool.submit(gateway.chat, token("r1", 1, sequences=1), 60) for _ in range(200)]
        while not any(task.done() for task in many):
            concurrent.futures.wait(many, timeout=0.05)
        other = gateway.chat(token("r2", 2, sequences=1))
        served = [task for task in many if task.done() and task.result().status_code == 200]
        assert other.status_code == 200
        assert len(served) < 40
        gateway.check()
        assert {task.result().status_code for task in many} == {200, 429}


@pytest.mark.parametrize(
    "asked",
    [
        {"max_tokens": 10**12},
        {"max_tokens": 10**9},
        {"n": 10**6},
        {"grammar": "root ::= " + "(" * 20_000},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "(" * 20_000}}}},
    ],
    ids=str,
)
def test_what_an_engine_would_die_of(tmp_path: Path, asked: dict[str, object]) -> None:
    with running(tmp_path) as gateway:
        answer = gateway.chat(token(), timeout_s=10, **asked)
        assert answer.status_code == 400 or answer.json()["usage"]["completion_tokens"] == 64
        gateway.check()


def test_an_ended_token_stays_ended_when_the_gateway_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        assert gateway.chat(token()).status_code == 200
        ended = httpx.post(
            f"{gateway.url}/fate/v1/reservations/r1/end",
            headers={"Authorization": f"Bearer {executor_token()}"},
            trust_env=False,
        )
        assert ended.status_code == 204
        assert gateway.chat(token()).status_code == 409
    (tmp_path / "pods" / "gpu-0.json").unlink()
    with running(tmp_path) as again:
        assert again.chat(token()).status_code == 409
        assert again.chat(token("r2", 2)).status_code == 200
