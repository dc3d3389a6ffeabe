"""vLLM servers that the gateway runs: they start, sleep, wake and end with their models, and never outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.gateway.engines import managed, served
from airflow_fate.gateway.engines.base import EngineDied, LoadFailed
from airflow_fate.gateway.engines.managed import END_WITH_STDIN, ManagedEngine
from tests.until import until

FAKE = Path(__file__).with_name("fake_vllm.py")
COMMAND = (sys.executable, str(FAKE), "--max-model-len=64")


class Servers:
    """The engine under test and what its servers said of themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: set[str] = set()
        self.died: list[str] = []
        for name in ("m", "n"):
            (folder / name).mkdir()
        self.engine = ManagedEngine({name: str(folder / name) for name in ("m", "n")}, COMMAND, self.kept.__contains__)
        self.engine.on_death = self.died.append

    def told(self, model: str) -> list[str]:
        return (self.folder / model / "told").read_text().split("\n")[:-1]

    def pids(self, model: str) -> list[int]:
        return [int(pid) for line in self.told(model) if line[0] != "/" for pid in line.split()]

    async def answer(self, model: str) -> str:
        body: dict[str, Any] = {"model": model, "messages": []}
        (document,) = [document async for document in self.engine.ask(model, "chat/completions", body)]
        return str(document["choices"][0]["message"]["content"])


@pytest.fixture
async def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    monkeypatch.setattr(served, "PERIOD_S", 0.01)
    running = Servers(tmp_path)
    yield running
    await running.engine.close()


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def test_a_model_that_is_not_kept_ends_with_all_its_processes(servers: Servers) -> None:
    await servers.engine.load("m")
    assert await servers.answer("m") == "True"
    assert servers.engine.signals["started"] == 1
    await servers.engine.unload("m")
    await holds(lambda: not any(map(lives, servers.pids("m"))))
    with pytest.raises(EngineDied):
        await servers.answer("m")
    assert servers.died == []


async def test_a_model_that_is_kept_sleeps_until_it_is_wanted_or_forgotten(servers: Servers) -> None:
    servers.kept.add("m")
    await servers.engine.load("m")
    await servers.engine.unload("m")
    await servers.engine.load("m")
    assert servers.told("m")[1:] == ["/sleep?level=1", "/wake_up"]
    assert await servers.answer("m") == "True"
    await servers.engine.unload("m")
    servers.kept.clear()
    await servers.engine.load("n")
    await holds(lambda: not any(map(lives, servers.pids("m"))))
    assert servers.died == []


async def test_a_server_that_dies_is_told_and_comes_again(servers: Servers) -> None:
    await servers.engine.load("m")
    os.kill(servers.pids("m")[0], signal.SIGKILL)
    await holds(lambda: servers.died == ["m"])
    await holds(lambda: not any(map(lives, servers.pids("m"))))
    await servers.engine.load("m")
    assert await servers.answer("m") == "True"


async def test_a_server_that_is_late_is_not_ended_while_it_answers(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await servers.engine.load("m")
    (servers.folder / "m" / "thinks").touch()
    answer = asyncio.create_task(servers.answer("m"))
    server = servers.engine._servers["m"]
    await holds(lambda: server.engine.running == 1)
    monkeypatch.setattr(served, "LIFE_TIMEOUT_S", 0.05)
    (servers.folder / "m" / "slow").touch()
    await holds(lambda: bool(servers.engine.trouble))
    with pytest.raises(EngineDied, match="no sign of life"):
        await servers.answer("m")
    (servers.folder / "m" / "slow").unlink()
    monkeypatch.setattr(served, "LIFE_TIMEOUT_S", 20.0)
    await holds(lambda: not servers.engine.trouble)
    (servers.folder / "m" / "thinks").unlink()
    assert await answer == "True"
    await asyncio.gather(*servers.engine._given_up)
    assert lives(servers.pids("m")[0])
    assert servers.died == []
    assert await servers.answer("m") == "True"


async def test_a_server_that_is_silent_and_answers_nobody_is_ended(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await servers.engine.load("m")
    monkeypatch.setattr(served, "LIFE_TIMEOUT_S", 0.05)
    (servers.folder / "m" / "slow").touch()
    await holds(lambda: servers.died == ["m"])
    assert servers.engine.trouble == ""


async def test_a_server_that_died_asleep_is_started_anew(servers: Servers) -> None:
    servers.kept.add("m")
    await servers.engine.load("m")
    await servers.engine.unload("m")
    os.kill(servers.pids("m")[0], signal.SIGKILL)
    await servers.engine.load("m")
    assert await servers.answer("m") == "True"


async def test_a_server_that_does_not_come_up_is_a_failed_load(servers: Servers) -> None:
    (servers.folder / "m" / "broken").touch()
    with pytest.raises(LoadFailed, match="vLLM exited with 3"):
        await servers.engine.load("m")


def test_whatever_kills_the_gateway_ends_its_engines(tmp_path: Path) -> None:
    command = [sys.executable, str(FAKE), str(tmp_path), "--served-model-name=m", "--host=127.0.0.1", "--port=0"]
    with subprocess.Popen([sys.executable, "-m", END_WITH_STDIN, *command], stdin=subprocess.PIPE) as process:
        until(lambda: (tmp_path / "told").is_file() and (tmp_path / "told").read_text())
        pids = [int(pid) for pid in (tmp_path / "told").read_text().split()]
        assert all(map(lives, pids))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 128 + signal.SIGTERM
    assert not any(map(lives, pids))


def test_time_to_end_what_is_tied_is_less_than_we_wait_for_it() -> None:
    from airflow_fate.gateway.engines.end_with_stdin import GRACE_S

    assert managed.STOP_TIMEOUT_S > GRACE_S
