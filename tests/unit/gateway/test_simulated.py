from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.gateway.engines import SimulatedEngine, Speeds, read_usage

SPEEDS = {"m": Speeds(prefill_tps=100.0, decode_tps=10.0, disk_load_s=5.0, host_load_s=1.0)}


class _Clock:
    def __init__(self) -> None:
        self.slept_s = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


async def _ask(engine: SimulatedEngine, text: str) -> dict[str, Any]:
    [document] = [d async for d in engine.ask("m", "completions", {"prompt": text, "max_tokens": 5})]
    return document


async def test_time_follows_the_speeds_and_the_cache() -> None:
    clock = _Clock()
    warm: set[str] = set()
    engine = SimulatedEngine(SPEEDS, in_host_memory=warm.__contains__, sleep=clock.sleep)
    await engine.load("m")
    assert clock.slept_s == 5.0
    first = read_usage(await _ask(engine, "x" * 400))
    assert first is not None
    assert (first.prompt_tokens, first.cached_tokens, first.prefill_s) == (100, 0, 1.0)
    assert clock.slept_s == pytest.approx(5.0 + 1.0 + 0.5)
    second = read_usage(await _ask(engine, "x" * 400 + "y" * 40))
    assert second is not None
    assert second.cached_tokens == 100
    await engine.unload("m")
    warm.add("m")
    clock.slept_s = 0.0
    await engine.load("m")
    assert clock.slept_s == 1.0
    third = read_usage(await _ask(engine, "x" * 400))
    assert third is not None
    assert third.cached_tokens == 0, "a cache ends with its engine"


async def test_the_cache_holds_so_many_tokens() -> None:
    engine = SimulatedEngine({"m": Speeds()}, kv_tokens=150)
    await engine.load("m")
    for letter in "ab":
        await _ask(engine, letter * 400)
    usage = read_usage(await _ask(engine, "a" * 400))
    assert usage is not None
    assert usage.cached_tokens == 0


async def test_equal_prompts_get_equal_answers() -> None:
    engine = SimulatedEngine({"m": Speeds()})
    await engine.load("m")
    assert (await _ask(engine, "x"))["choices"] == (await _ask(engine, "x"))["choices"]
