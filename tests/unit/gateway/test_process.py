"""Does a gateway's process end cleanly when it is told to, however early that is?"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from airflow_fate.gateway.process import listen
from airflow_fate.messages import Claims, sign
from tests.unit.gateway.helpers import SECRET
from tests.unit.gateway.test_settings import write
from tests.until import until


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Just started; it waits for its settings, for their file is a pipe."""
    os.mkfifo(tmp_path / "fleet.json")
    (tmp_path / "secret").write_text(SECRET)
    command = [sys.executable, "-m", "airflow_fate.gateway", "--fleet-dir", str(tmp_path), "--device", "gpu-0"]
    with subprocess.Popen(command) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("host", "reached"), [("127.0.0.1", {"127.0.0.1"}), ("::1", {"::1"}), ("::", {"127.0.0.1", "::1"})]
)
def test_it_listens_where_pods_have_their_addresses(host: str, reached: set[str]) -> None:
    with listen(host, 0) as listener:
        reached_addresses = set()
        for address in ("127.0.0.1", "::1"):
            with contextlib.suppress(OSError):
                socket.create_connection((address, listener.getsockname()[1]), timeout=5).close()
                reached_addresses.add(address)
    assert reached_addresses == reached


def test_while_it_starts(tmp_path: Path, gateway: subprocess.Popen[bytes]) -> None:
    # Opening a pipe waits for whoever reads it.
    with (tmp_path / "fleet.json").open("w"):
        gateway.terminate()
        assert gateway.wait(10) == 0


def test_while_it_serves(tmp_path: Path, gateway: subprocess.Popen[bytes]) -> None:
    write(tmp_path, "gpu-0", "laptop")
    report = tmp_path / "pods" / "gpu-0.json"
    until(report.is_file)
    gateway.terminate()
    assert gateway.wait(10) == 0
    assert not report.exists()


def test_an_answer_that_runs_still_ends(tmp_path: Path, gateway: subprocess.Popen[bytes]) -> None:
    speeds = {"load_gb_per_s": {"disk": 1, "host": 1}, "prefill_tps": {"any": 1000}, "decode_tps": {"any": 10}}
    write(tmp_path, "gpu-0", "laptop", {"m": {"weights_gb": 0.01, **speeds}}, drain_s=3)
    report = tmp_path / "pods" / "gpu-0.json"
    until(report.is_file)
    (container,) = json.loads(report.read_text())["spec"]["containers"]
    url = f"http://127.0.0.1:{container['ports'][0]['containerPort']}/v1/chat/completions"
    token = sign(Claims(aud="gpu-0", sub="a", jti="b", exp=int(time.time()) + 60, model="m"), SECRET)
    # A second's worth.
    body = {"model": "m", "stream": True, "max_tokens": 10, "messages": [{"role": "user", "content": "Go on."}]}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30, trust_env=False) as answer:
        lines = answer.iter_lines()
        next(lines)
        gateway.terminate()
        assert "data: [DONE]" in lines
    # It also waits for who might be on the way, three seconds in all.
    assert gateway.wait(10) == 0
