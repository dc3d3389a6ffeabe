"""A gateway and a real vLLM: one that runs by itself, with its cache's events and an adapter, and one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

import airflow_fate
from airflow_fate.gateway.child import free_port
from airflow_fate.gateway.engines.managed import END_WITH_STDIN
from airflow_fate.messages import FLEET_AUDIENCE, Claims, reader_token, sign
from tests.until import until
from tests.vllm import install
from tests.vllm.install import ensure

MODEL, ADAPTER = "tiny", "tuned"
SECRET = "k" * 32
OPTIONS = ("--enforce-eager", "--max-model-len=4096", "--enable-prompt-tokens-details")
ENVIRONMENT = install.ENVIRONMENT | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
START_S = 900.0
"""Three times what a start takes on a slow machine."""
WAIT_S = 180.0
KEY = "what the engine wants to be shown"
CHAIN, OTHER_CHAIN = (("a" * 32, 500),), (("b" * 32, 500),)
DOCUMENT = "The keeper of the lighthouse counts the ships that pass by night. " * 30
OTHER_DOCUMENT = DOCUMENT.replace("ships", "gulls")


@contextmanager
def vllm(port: int, events_port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """vLLM on this port; it takes a minute or two to be there."""
    folder = ensure()
    environment = os.environ | ENVIRONMENT | {"VLLM_API_KEY": KEY}
    # An address of one interface is one to connect to: vLLM's publisher listens only where it is told "all".
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://*:{events_port}"}
    command = [str(folder / "bin" / "vllm"), "serve", str(folder / "model"), f"--served-model-name={MODEL}"]
    command += ["--host=127.0.0.1", f"--port={port}", *OPTIONS, f"--kv-events-config={json.dumps(events)}"]
    command += ["--enable-lora", "--max-lora-rank=8"]
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        # Its workers are processes of their own, in its session.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def gateway(folder: Path, weights: Path, python: str = sys.executable, **device: Any) -> Iterator[httpx.Client]:
    """A gateway of such a device; a client that may read everything."""
    port = free_port()
    speeds = {"load_gb_per_s": {"disk": 1, "host": 1}, "prefill_tps": {"cpu": 100}, "decode_tps": {"cpu": 10}}
    models: dict[str, Any] = {MODEL: {"weights_gb": 0.01, "file": str(weights), **speeds}}
    if device["engine"] == "vllm":
        models[ADAPTER] = {"weights_gb": 0.001, "adapter": f"{weights}/adapter", **speeds}
    device = {
        "node": "n",
        "gpu": "cpu",
        "memory_gb": 1,
        "kv_tokens": 8192,
        "max_seqs": 4,
        "context_tokens": 4096,
        "cache_ram_mib": 0,
        "threads": 1,
        "port": port,
        **device,
    }
    fleet = {
        "models": models,
        "nodes": {"n": {"host_gb": 1}},
        "devices": {"d": device},
        "artifacts_gb": 1,
        "label_prefix": "fate.airflow",
    }
    (folder / "fleet.json").write_text(json.dumps(fleet))
    (folder / "secret").write_text(SECRET)
    command = [python, "-m", "airflow_fate.gateway", "--fleet-dir", str(folder), "--device", "d"]
    environment = (
        os.environ | ENVIRONMENT | {"ENGINE_KEY": KEY, "PYTHONPATH": str(Path(airflow_fate.__file__).parents[1])}
    )
    with subprocess.Popen(command, env=environment) as process:
        headers = {"Authorization": f"Bearer {reader_token(SECRET, 'test')}"}
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=START_S
            ) as client:
                yield client
        finally:
            process.kill()


def wait(condition: Callable[[], Any]) -> None:
    until(condition, WAIT_S)


def report(client: httpx.Client) -> dict[str, Any]:
    try:
        document: dict[str, Any] = client.get("/fate/v1/report").json()
    except httpx.TransportError:
        return {}
    return document


def known_prefixes(client: httpx.Client) -> set[str]:
    return {key for key, *_ in report(client)["prefixes"]}


def is_ready(client: httpx.Client, model: str = MODEL) -> bool:
    return bool(report(client).get("models", {}).get(model, {}).get("state") == "ready")


def wait_ready(client: httpx.Client, engine: subprocess.Popen[bytes]) -> None:
    """Wait until the gateway says that its model is ready; an engine that ends meanwhile never will be."""
    until(lambda: is_ready(client) or engine.poll() is not None, START_S)
    assert engine.poll() is None, "vLLM ended; its log is in the test's folder"


def token(reservation: str, fence: int, model: str = MODEL, **more: Any) -> dict[str, str]:
    more = {"chain": CHAIN} | more
    claims = Claims(aud="d", sub="t", jti=reservation, exp=int(time.time()) + 7200, fence=fence, model=model, **more)
    return {"Authorization": f"Bearer {sign(claims, SECRET)}"}


def unload(client: httpx.Client, model: str) -> None:
    claims = Claims(aud=FLEET_AUDIENCE, sub="executor", jti="executor", exp=int(time.time()) + 60)
    headers = {"Authorization": f"Bearer {sign(claims, SECRET)}"}
    client.post(f"/fate/v1/models/{model}/unload", headers=headers).raise_for_status()


def ask(client: httpx.Client, fence: int, model: str = MODEL, document: str = DOCUMENT, **claims: Any) -> int:
    """Stream an answer; how many of the prompt's tokens came from the cache."""
    messages = [{"role": "system", "content": document}, {"role": "user", "content": f"Question {fence}?"}]
    body = {"model": model, "messages": messages, "max_tokens": 8, "stream": True, "ignore_eos": True}
    body |= {"stream_options": {"include_usage": True}}
    headers = token(f"r{fence}", fence, model, **claims)
    with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    usage: dict[str, Any] = json.loads(lines[-2])["usage"]
    cached: int = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached == 0 or cached > 0.8 * usage["prompt_tokens"]
    return cached


def test_a_gateway_before_a_real_vllm(tmp_path: Path) -> None:
    port, events_port, log = free_port(), free_port(), tmp_path / "vllm.log"
    urls = {"engine_url": f"http://127.0.0.1:{port}/v1", "events_url": f"tcp://127.0.0.1:{events_port}"}
    with gateway(tmp_path, ensure() / "model", engine="vllm", engine_key_env="ENGINE_KEY", **urls) as client:
        with vllm(port, events_port, log) as engine:
            wait_ready(client, engine)
            assert ask(client, 1) == 0
            cached_tokens = ask(client, 2)
            assert cached_tokens > 0
            assert report(client)["served_cached_tokens"] == cached_tokens
            wait(lambda: f'signal="prefix_hits"}} {cached_tokens}' in client.get("/metrics").text)
            missing = [line for line in client.get("/metrics").text.splitlines() if "signal_missing" in line]
            assert missing
            assert all(line.endswith(" 0.0") for line in missing if not line.startswith("#"))
            no_other_tenant_sees_it(client)
            an_adapter_comes_and_goes(client)
            the_engines_events_say_what_is_cached(client, f"http://127.0.0.1:{port}")
        wait(lambda: not is_ready(client))
        assert report(client)["draining"], "nobody should be bound to an engine that is out"
        with vllm(port, events_port, log) as engine:
            wait_ready(client, engine)
            assert report(client)["prefixes"] == []
            assert ask(client, 10) == 0


def no_other_tenant_sees_it(client: httpx.Client) -> None:
    assert ask(client, 3, salt="one") == 0
    assert ask(client, 4, salt="two") == 0
    assert ask(client, 5, salt="one") > 0


def an_adapter_comes_and_goes(client: httpx.Client) -> None:
    assert not is_ready(client, ADAPTER)
    assert ask(client, 6, ADAPTER) == 0
    assert is_ready(client, ADAPTER)
    assert ask(client, 7, ADAPTER) > 0
    unload(client, ADAPTER)
    wait(lambda: ADAPTER not in report(client)["models"])
    assert is_ready(client)


def the_engines_events_say_what_is_cached(client: httpx.Client, engine_url: str) -> None:
    # A tenant's blocks are found as any other's.
    assert ask(client, 8, salt="one") > 0
    assert CHAIN[0][0] in known_prefixes(client)
    httpx.post(f"{engine_url}/reset_prefix_cache").raise_for_status()
    # An idle vLLM tells it with what it does next.
    assert ask(client, 9, document=OTHER_DOCUMENT, chain=OTHER_CHAIN) == 0
    wait(lambda: CHAIN[0][0] not in known_prefixes(client))
    assert OTHER_CHAIN[0][0] in known_prefixes(client)


def servers(model: Path) -> list[str]:
    """Processes of vLLM servers of this model."""
    servers = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            if str(model) in words and f"--served-model-name={MODEL}" in words and END_WITH_STDIN not in words:
                servers.append(folder.name)
    return servers


def test_a_gateway_over_a_vllm_of_its_own(tmp_path: Path) -> None:
    """In vLLM's own environment, as in an image of vLLM's with this package and nothing that it needs."""
    # A path of its own for the model, so that no other test's server is taken for this one's.
    weights = tmp_path / "model"
    weights.symlink_to(ensure() / "model")
    command = [str(ensure() / "bin" / "vllm"), "serve", *OPTIONS]
    device = {"engine": "vllm-managed", "engine_command": command, "engine_sleeps": True}
    with gateway(tmp_path, weights, str(ensure() / "bin" / "python"), **device) as client:
        wait(lambda: report(client))
        assert ask(client, 1) == 0
        assert ask(client, 2) > 0
        before = servers(weights)
        assert len(before) == 1
        unload(client, MODEL)
        wait(lambda: report(client)["models"] == {})
        assert report(client)["prefixes"] == []
        # It slept, and is the same one.
        assert ask(client, 3) == 0
        assert (servers(weights), report(client)["loads"]) == (before, 2)
    wait(lambda: servers(weights) == [])
