"""A gateway before a real vLLM: ready without being asked, prefixes as the engine counts them, a restart behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from airflow_fate.demo.stack import free_port
from airflow_fate.messages import Claims, reader_token, sign
from tests.until import until
from tests.vllm.install import ensure

MODEL = "tiny"
SECRET = "k" * 32
START_S = 300.0
CHAIN = (("a" * 32, 500),)
DOCUMENT = "The keeper of the lighthouse counts the ships that pass by night. " * 30


@contextmanager
def vllm(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """vLLM on this port; it takes a minute or two to be there."""
    folder = ensure()
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [str(folder / "bin" / "vllm"), "serve", str(folder / "model"), f"--served-model-name={MODEL}"]
    command += ["--host=127.0.0.1", f"--port={port}", "--enforce-eager", "--max-model-len=4096"]
    command += ["--enable-prompt-tokens-details"]
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        # Its workers are processes of their own, in its session.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def gateway(folder: Path, engine_port: int) -> Iterator[httpx.Client]:
    """A gateway before it; a client that may read everything."""
    port = free_port()
    speeds = {"load_gb_per_s": {"disk": 1, "host": 1}, "prefill_tps": {"cpu": 100}, "decode_tps": {"cpu": 10}}
    device: dict[str, Any] = {
        "node": "n",
        "gpu": "cpu",
        "engine": "vllm",
        "engine_url": f"http://127.0.0.1:{engine_port}",
    }
    device |= {
        "memory_gb": 1,
        "kv_tokens": 8192,
        "max_seqs": 4,
        "context_tokens": 4096,
        "cache_ram_mib": 0,
        "threads": 1,
    }
    fleet = {
        "models": {MODEL: {"weights_gb": 0.01, **speeds}},
        "nodes": {"n": {}},
        "devices": {"d": device | {"port": port}},
        "artifacts_gb": 1,
        "label_prefix": "fate.airflow",
    }
    (folder / "fleet.json").write_text(json.dumps(fleet))
    (folder / "secret").write_text(SECRET)
    command = [sys.executable, "-m", "airflow_fate.gateway", "--fleet-dir", str(folder), "--device", "d"]
    with subprocess.Popen(command) as process:
        headers = {"Authorization": f"Bearer {reader_token(SECRET, 'test')}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60) as client:
            yield client
        process.kill()


def report(client: httpx.Client) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.get("/fate/v1/report").json()
    except httpx.TransportError:
        return {}
    return found


def is_ready(client: httpx.Client) -> bool:
    return bool(report(client).get("models", {}).get(MODEL, {}).get("state") == "ready")


def wait_ready(client: httpx.Client, engine: subprocess.Popen[bytes]) -> None:
    """Wait until the gateway says that its model is ready; an engine that ends meanwhile never will be."""
    until(lambda: is_ready(client) or engine.poll() is not None, START_S)
    assert engine.poll() is None, "vLLM ended; its log is in the test's folder"


def ask(client: httpx.Client, reservation: str, fence: int, question: str) -> dict[str, Any]:
    """Stream an answer; the usage that came with it."""
    claims = Claims(
        aud="d", sub="t", jti=reservation, exp=int(time.time()) + 600, fence=fence, model=MODEL, chain=CHAIN
    )
    messages = [{"role": "system", "content": DOCUMENT}, {"role": "user", "content": question}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 8, "stream": True, "ignore_eos": True}
    body |= {"stream_options": {"include_usage": True}}
    headers = {"Authorization": f"Bearer {sign(claims, SECRET)}"}
    with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    usage: dict[str, Any] = json.loads(lines[-2])["usage"]
    return usage


def test_a_gateway_before_a_real_vllm(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "vllm.log"
    with gateway(tmp_path, port) as client:
        with vllm(port, log) as engine:
            wait_ready(client, engine)
            first, second = (ask(client, f"r{n}", n, f"Question {n}?") for n in (1, 2))
            assert first["prompt_tokens_details"]["cached_tokens"] == 0
            cached_tokens = second["prompt_tokens_details"]["cached_tokens"]
            assert cached_tokens > 0.8 * second["prompt_tokens"]
            assert report(client)["served_cached_tokens"] == cached_tokens
            assert report(client)["prefixes"]
            until(lambda: f'signal="prefix_hits"}} {cached_tokens}' in client.get("/metrics").text)
            missing = [line for line in client.get("/metrics").text.splitlines() if "signal_missing" in line]
            assert missing
            assert all(line.endswith(" 0.0") for line in missing if not line.startswith("#"))
        until(lambda: not is_ready(client))
        with vllm(port, log) as engine:
            wait_ready(client, engine)
            assert report(client)["prefixes"] == []
            assert ask(client, "r3", 3, "Question 3?")["prompt_tokens_details"]["cached_tokens"] == 0
