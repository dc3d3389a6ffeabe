"""``fate fleet``: what can't be done is said in a line, with a status that isn't 0, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import psutil
import pytest
from typer.testing import CliRunner

from airflow_fate.cli import extras
from airflow_fate.cli.fleetdir import supervisor_pid
from airflow_fate.cli.main import app
from airflow_fate.gateway.child import CANNOT_START
from airflow_fate.gateway.supervisor import Backoff, Supervisor

FLEET = """
models:
  m: {weights_gb: 1, load_gb_per_s: {disk: 1, host: 1}, prefill_tps: {cpu: 1}, decode_tps: {cpu: 1}}
nodes:
  n: {}
devices:
  gpu-0: {node: n, gpu: cpu, engine: simulated, memory_gb: MEMORY, kv_tokens: 8192}
"""
TWO = """
models:
  m: {weights_gb: 1, load_gb_per_s: {disk: 1, host: 1}, prefill_tps: {cpu: 1}, decode_tps: {cpu: 1}}
nodes:
  n: {}
devices:
  d0: {node: n, gpu: cpu, engine: simulated, memory_gb: 1, kv_tokens: 8192, port: PORT}
  d1: {node: n, gpu: cpu, engine: simulated, memory_gb: 1, kv_tokens: 8192}
"""


def fate(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("detach", ["--detach", "--no-detach"])
def test_a_malformed_fleet_file_is_named_with_the_key_and_its_form(tmp_path: Path, detach: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.replace("MEMORY", "-1"))
    status, said = fate("fleet", "up", "--file", file, "--dir", tmp_path / "fleet", detach)
    assert status == 2
    assert said.startswith(f"fate fleet up: {file}")
    assert "devices.gpu-0.memory_gb: must be greater than 0, got -1" in said
    assert not (tmp_path / "fleet").exists()


def test_a_missing_fleet_file_is_named(tmp_path: Path) -> None:
    status, said = fate("fleet", "up", "--file", tmp_path / "none.yaml", "--dir", tmp_path / "fleet")
    assert status == 2
    assert f"{tmp_path / 'none.yaml'}: No such file" in said


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_folder_without_a_fleet_says_how_to_make_one(tmp_path: Path, command: str) -> None:
    status, said = fate("fleet", command, "--dir", tmp_path)
    assert status == 2
    assert f"{tmp_path} holds no fleet; `fate fleet up` makes one" in said


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def two_devices(folder: Path, port: int = 0) -> Path:
    """A fleet whose first gateway has a port of its own."""
    file = folder / "fleet.yaml"
    file.write_text(TWO.replace("PORT", str(port)))
    return file


@pytest.mark.parametrize("detach", ["--detach", "--no-detach"])
def test_a_taken_port_is_told_once_and_nothing_is_left_running(tmp_path: Path, busy_port: int, detach: str) -> None:
    folder = tmp_path / "fleet"
    status, said = fate("fleet", "up", "--file", two_devices(tmp_path, busy_port), "--dir", folder, detach)
    assert status == 1
    reason = f"devices.d0.port: port {busy_port} of 127.0.0.1 can't be listened on (Address already in use)"
    assert said.count(reason) == 1
    assert "choose another, or 0 for a free one" in said
    assert supervisor_pid(folder) is None
    assert [
        process for process in psutil.process_iter(["cmdline"]) if str(folder) in (process.info["cmdline"] or ())
    ] == []


@pytest.mark.parametrize("detach", ["--detach", "--no-detach"])
def test_a_folder_that_cant_be_made_is_told_in_one_sentence(tmp_path: Path, detach: str) -> None:
    (tmp_path / "file").touch()
    status, said = fate("fleet", "up", "--file", two_devices(tmp_path), "--dir", tmp_path / "file" / "fleet", detach)
    assert status == 1
    assert said == (
        f"fate fleet up: folder {tmp_path / 'file' / 'fleet'} can't be made (Not a directory); "
        "choose another one with --dir\n"
    )


@pytest.mark.parametrize(
    ("engine", "module", "says"),
    [
        ("engine: llamacpp", "xllamacpp", "engine llamacpp of device gpu-0 needs xllamacpp, which isn't installed"),
        (
            "engine: vllm, url: http://127.0.0.1:1, events_url: tcp://127.0.0.1:1",
            "zmq",
            "events_url of device gpu-0 needs zmq, which isn't installed",
        ),
    ],
)
def test_what_isnt_installed_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, module: str, says: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else object())
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.replace("engine: simulated", engine).replace("MEMORY", "1"))
    status, said = fate("fleet", "up", "--file", file, "--dir", tmp_path / "fleet")
    assert status == 1
    assert says in said
    assert "pip install 'airflow-fate[" in said
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize("command", ["status", "down"])
def test_without_a_folder_the_executors_own_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("AIRFLOW__FATE__FLEET_DIR", str(tmp_path / "here"))
    monkeypatch.delenv("FATE_FLEET_DIR", raising=False)
    assert f"{tmp_path / 'here'} holds no fleet" in fate("fleet", command)[1]
    monkeypatch.setenv("FATE_FLEET_DIR", str(tmp_path / "there"))
    assert f"{tmp_path / 'there'} holds no fleet" in fate("fleet", command)[1]


async def test_a_gateway_that_has_run_is_started_again_whatever_is_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in its way then was not there before: it may go, and the others serve meanwhile."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "d0.log").write_text("started\nport 1 is taken\n")
    ends = iter([1, CANNOT_START, CANNOT_START, CANNOT_START, 1])
    said: list[str] = []
    over = asyncio.Event()

    async def start(self: Supervisor, device: str) -> Any:
        code = next(ends, None)
        if code is None:
            over.set()
            await asyncio.Event().wait()
        process = AsyncMock(pid=1, stdin=None)
        process.wait.return_value = code
        return process

    monkeypatch.setattr(Supervisor, "_start", start)
    monkeypatch.setattr(Backoff, "after_s", lambda self, lived_s: 0.0)
    running = asyncio.create_task(Supervisor(tmp_path, ["d0"], said.append).run())
    await over.wait()
    running.cancel()
    assert said == [
        "d0: gateway ended with 1 (port 1 is taken), is started again",
        "d0: gateway ended with 78 (port 1 is taken), is started again",
        "d0: gateway ended with 1 (port 1 is taken), is started again",
    ]
