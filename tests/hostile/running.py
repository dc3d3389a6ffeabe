"""A real gateway's process before a simulated engine, with few files and small limits, so that all is over soon."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from airflow_fate.messages import FLEET_AUDIENCE, Claims, sign
from tests.until import until

SECRET = "s" * 32
DEVICE = "gpu-0"
MODEL = "m"
FILES = 512
LIMITS = {"head_s": 1, "body_s": 2, "unread_s": 1}
QUICK = 1e9
LOG_BYTES = 64 * 1024
ANSWERS_WITHIN_S = 5.0


def write_fleet(folder: Path, *, decode_tps: float = QUICK, context_tokens: int = 64, artifacts_gb: float = 1) -> None:
    model = {
        "weights_gb": 0.01,
        "load_gb_per_s": {"disk": 100, "host": 100},
        "prefill_tps": {"any": QUICK},
        "decode_tps": {"any": decode_tps},
    }
    device = {
        "node": "n",
        "gpu": "any",
        "engine": "simulated",
        "memory_gb": 1,
        "kv_tokens": 4096,
        "max_seqs": 1,
        "context_tokens": context_tokens,
        "cache_ram_mib": 0,
        "threads": 1,
    }
    fleet = {
        "models": {MODEL: model},
        "nodes": {"n": {}},
        "devices": {DEVICE: device},
        "artifacts_gb": artifacts_gb,
        "label_prefix": "fate.airflow",
        "limits": LIMITS,
    }
    (folder / "fleet.json").write_text(json.dumps(fleet))
    (folder / "secret").write_text(SECRET)


def token(reservation: str = "r1", fence: int = 1, **more: Any) -> str:
    claims = {"aud": DEVICE, "sub": "try", "exp": int(time.time()) + 3600, "model": MODEL, "live": range(1, 100)}
    return sign(Claims.model_validate({**claims, "jti": reservation, "fence": fence, **more}), SECRET)


def executor_token() -> str:
    return token("executor", 0, aud=FLEET_AUDIENCE, sub="executor")


class Running:
    """One gateway's process."""

    def __init__(self, folder: Path, files: int) -> None:
        self.folder = folder
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow_fate.gateway", "--fleet-dir", str(folder), "--device", DEVICE],
                stderr=log,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
            )
        report = folder / "pods" / f"{DEVICE}.json"
        until(report.is_file)
        (container,) = json.loads(report.read_text())["spec"]["containers"]
        self.port = container["ports"][0]["containerPort"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._first_rss_bytes = self._rss_bytes()

    def connect(self) -> socket.socket:
        connected = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWERS_WITHIN_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def head(self, path: str, token: str, *more: str, method: str = "POST") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: gateway", *more]
        lines += [f"Authorization: Bearer {token}"] if token else []
        return "\r\n".join([*lines, "", ""]).encode()

    def chat(self, token: str, timeout_s: float = 30, **more: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **more}
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=timeout_s, trust_env=False
        )

    def check(self, more_bytes: float = 100e6) -> None:
        """It answers, and neither its log nor its memory has grown."""
        assert self.process.poll() is None
        answer = httpx.get(f"{self.url}/health", timeout=ANSWERS_WITHIN_S, trust_env=False)
        assert answer.status_code == 204
        assert self._log.stat().st_size < LOG_BYTES
        assert b"Traceback" not in self._log.read_bytes()
        assert self._rss_bytes() - self._first_rss_bytes < more_bytes

    def _rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def running(folder: Path, files: int = FILES, **fleet: Any) -> Iterator[Running]:
    write_fleet(folder, **fleet)
    gateway = Running(folder, files)
    try:
        yield gateway
    finally:
        gateway.process.kill()
        gateway.process.wait()


def is_cut(connected: socket.socket) -> bool:
    """Whether the other side ends it before long; what it still says is read."""
    connected.settimeout(10)
    try:
        while connected.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
