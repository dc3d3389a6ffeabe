from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.gateway.engines import SimulatedEngine, Speeds, read_usage
from tests.unit.gateway.steps import Steps

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
    engine = SimulatedEngine(SPEEDS, in_host_memory=warm.__contains__, sleep=clock.sleep, clock=lambda: clock.slept_s)
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


async def _timings(engine: SimulatedEngine, text: str, tokens: int) -> tuple[float, float]:
    """Seconds of prefill and of decoding, as the engine tells them."""
    body = {"prompt": text, "max_tokens": tokens}
    [document] = [d async for d in engine.ask("m", "completions", body)]
    usage = read_usage(document)
    assert usage is not None
    assert usage.prefill_s is not None
    assert usage.decode_s is not None
    return usage.prefill_s, usage.decode_s


async def test_prompts_are_computed_one_after_another_and_decoding_slows_down_with_company() -> None:
    steps = Steps()
    engine = SimulatedEngine(
        {"m": Speeds(100.0, 10.0, decode_slowdown=0.5)}, sleep=steps.sleep, clock=lambda: steps.now_s
    )
    await engine.load("m")
    one, two = await steps.run(_timings(engine, "x" * 400, 20), _timings(engine, "y" * 400, 20))
    # For a second the first decodes alone, while the other prompt is computed; ten tokens more take half as long again.
    assert one == pytest.approx((1.0, 1.0 + 1.5), abs=0.06)
    assert two == pytest.approx((1.0, 1.5 + 1.0), abs=0.06)


async def test_steps_end_in_time_though_each_sleep_is_too_long() -> None:
    clock = _Clock()

    async def oversleep(seconds: float) -> None:
        await clock.sleep(seconds + 0.04)

    engine = SimulatedEngine({"m": Speeds(100.0, 10.0)}, sleep=oversleep, clock=lambda: clock.slept_s, batch_tokens=10)
    await engine.load("m")
    began_s = clock.slept_s
    prefill_s, decode_s = await _timings(engine, "x" * 400, 20)
    assert clock.slept_s - began_s == pytest.approx(prefill_s + decode_s, abs=0.09)


async def test_a_prompt_is_cached_when_it_is_computed_and_not_only_when_it_is_answered() -> None:
    steps = Steps()
    engine = SimulatedEngine({"m": Speeds(100.0, 10.0)}, sleep=steps.sleep, clock=lambda: steps.now_s)
    await engine.load("m")
    one, two = await steps.run(_timings(engine, "x" * 400, 20), _timings(engine, "x" * 400 + "y" * 40, 20))
    assert [one[0], two[0]] == pytest.approx([1.0, 0.1])


async def test_prompts_and_those_who_decode_share_the_steps() -> None:
    steps = Steps()
    engine = SimulatedEngine({"m": Speeds(100.0, 10.0)}, sleep=steps.sleep, clock=lambda: steps.now_s, batch_tokens=11)
    await engine.load("m")
    one, two = await steps.run(_timings(engine, "x" * 400, 20), _timings(engine, "y" * 400, 20))
    # As tests/unit/simulator/test_oracle.py counts by hand, but without a slowdown.
    assert one == pytest.approx((1.0, 2.0 + 1.0), abs=0.25)
    assert two == pytest.approx((2.0, 2.0), abs=0.25)


async def test_context_slows_down_all_that_decode() -> None:
    steps = Steps()
    engine = SimulatedEngine(
        {"m": Speeds(100.0, 10.0, context_slowdown=2.0)}, sleep=steps.sleep, clock=lambda: steps.now_s
    )
    await engine.load("m")
    (only,) = await steps.run(_timings(engine, "x" * 4 * 490, 20))
    assert only == pytest.approx((4.9, 4.0), abs=0.01)
