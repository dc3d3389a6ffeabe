"""A llama.cpp child whose HTTP server lives, whatever its core does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.gateway.engines import llamacpp
from airflow_fate.gateway.engines.base import EngineDied, LoadFailed
from airflow_fate.gateway.engines.llamacpp import LlamaCppEngine
from airflow_fate.gateway.engines.pulse import MISSES

FAKE = "tests.unit.gateway.fake_llamacpp"


class Engine(LlamaCppEngine):
    """A driver with the fake child, and what it said of that."""

    def __init__(self, folder: Path, load_timeout_s: float, cache_ram_mib: int = 0) -> None:
        file = folder / "m.gguf"
        file.touch()
        super().__init__(
            {"m": file, "slow": file},
            threads=1,
            slots=1,
            context_tokens=64,
            batch_tokens=2048,
            cache_ram_mib=cache_ram_mib,
            load_timeout_s=load_timeout_s,
        )
        self.deaths: asyncio.Queue[str] = asyncio.Queue()
        self.on_death = self.deaths.put_nowait

    async def answer(self, **behaviour: Any) -> list[dict[str, Any]]:
        body = {"model": "m", "messages": [], **behaviour}
        async with asyncio.timeout(20):
            return [document async for document in self.ask("m", "chat/completions", body)]


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setattr(llamacpp, "SERVER_MODULE", FAKE)
    monkeypatch.setattr(llamacpp, "PERIOD_S", 0.01)
    driver = Engine(tmp_path, load_timeout_s=20.0)
    await driver.load("m")
    yield driver
    await driver.close()


async def test_a_core_that_hangs_ends_its_child_and_the_next_load_is_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp, "LIFE_TIMEOUT_S", 0.05)
    with pytest.raises(EngineDied):
        await engine.answer(hangs=True)
    assert await engine.deaths.get() == "m"
    monkeypatch.setattr(llamacpp, "LIFE_TIMEOUT_S", 20.0)
    await engine.load("m")
    assert len(await engine.answer()) == 1


async def test_an_answer_that_is_long_in_coming_is_waited_for_while_the_core_answers(engine: Engine) -> None:
    assert len(await engine.answer(pings=MISSES + 2)) == 1
    assert engine.deaths.empty()


async def test_no_silence_counts_while_an_answer_flows(engine: Engine) -> None:
    assert len(await engine.answer(stream=True, deaf=True, pings=MISSES + 2)) == MISSES + 2
    assert engine.deaths.empty()


async def test_a_load_that_takes_too_long_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "SERVER_MODULE", FAKE)
    with pytest.raises(LoadFailed, match=r"within 0\.2 s, the device's load_timeout_s"):
        await Engine(tmp_path, load_timeout_s=0.2).load("slow")


async def test_a_child_that_died_while_a_second_tenant_waited_is_not_loaded_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp, "SERVER_MODULE", FAKE)
    monkeypatch.setattr(llamacpp, "PERIOD_S", 0.01)
    engine = Engine(tmp_path, load_timeout_s=20.0, cache_ram_mib=1)
    await engine.load("m")
    body = {"messages": [], "cache_salt": "a", "stream": True, "pings": 10**6}
    async with aclosing(engine.ask("m", "chat/completions", body)) as documents:
        await anext(documents)
        second = asyncio.create_task(engine.answer(cache_salt="b"))
        await asyncio.sleep(0)
        engine._children["m"].process.kill()
        assert await engine.deaths.get() == "m"
        await engine.load("m")
        loaded = engine._children["m"]
    assert len(await second) == 1
    assert engine._children["m"] is loaded
    await engine.close()
