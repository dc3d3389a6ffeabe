"""One task's surplus is its own: nobody else waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.helpers import Bench, token

ALL = (1, 2, 3)


async def _busy(bench: Bench) -> Bench:
    """Its model is there, and what it answers from now on waits."""
    await bench.chat(token("r0", 0))
    bench.engine.gate.clear()
    return bench


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return await _busy(Bench(tmp_path, queued_of_one=5, queued=8))


async def _ask(bench: Bench, fence: int, times: int = 1, sequences: int = 1) -> list[asyncio.Task[Any]]:
    own_token = token(f"r{fence}", fence, live=ALL, sequences=sequences)
    asked = [asyncio.create_task(bench.chat(own_token, text=f"{fence}")) for _ in range(times)]
    wanted = bench.gateway.serving.queued + bench.gateway.serving.running + times
    async with asyncio.timeout(5):
        while bench.gateway.serving.queued + bench.gateway.serving.running < wanted:
            await asyncio.sleep(0)
    return asked


async def test_another_reservation_is_next_however_much_one_asks(bench: Bench) -> None:
    many = await _ask(bench, 1, times=5)
    (other,) = await _ask(bench, 2)
    done: list[str] = []
    for call in (*many, other):
        call.add_done_callback(lambda done_one: done.append("other" if done_one is other else "one of many"))
    bench.engine.gate.set()
    await asyncio.gather(*many, other)
    assert done.index("other") == 1


async def test_as_many_are_served_at_once_as_the_token_says(tmp_path: Path) -> None:
    bench = await _busy(Bench(tmp_path, max_seqs=4))
    calls = await _ask(bench, 1, times=6, sequences=2)
    assert bench.gateway.serving.running == 2
    calls += await _ask(bench, 2, times=6, sequences=3)
    assert bench.gateway.serving.running == 4
    bench.engine.gate.set()
    assert {(await call).status_code for call in calls} == {200}
    assert (bench.gateway.serving.running, bench.gateway.serving.queued) == (0, 0)


async def test_too_many_of_one_are_refused_and_others_are_not(bench: Bench) -> None:
    calls = await _ask(bench, 1, times=6)
    async with asyncio.timeout(5):
        refused = await bench.chat(token("r1", 1, live=ALL, sequences=1))
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "fate_too_many")
    assert refused.headers["Retry-After"]
    calls += await _ask(bench, 2)
    bench.engine.gate.set()
    assert {(await call).status_code for call in calls} == {200}


async def test_the_whole_queue_is_bounded(bench: Bench) -> None:
    calls = [*await _ask(bench, 1, times=5), *await _ask(bench, 2, times=4)]
    async with asyncio.timeout(5):
        refused = await bench.chat(token("r3", 3, live=ALL))
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "fate_busy")
    bench.engine.gate.set()
    assert {(await call).status_code for call in calls} == {200}
    assert (await bench.chat(token("r3", 3, live=ALL))).status_code == 200


async def test_who_leaves_while_waiting_lets_the_next_of_its_own_in(bench: Bench) -> None:
    first, second, third = await _ask(bench, 1, times=3)
    for call in (second, first):
        call.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    bench.engine.gate.set()
    assert (await third).status_code == 200
    serving = bench.gateway.serving
    assert (serving.running, serving.queued, serving._by_reservation) == (0, 0, {})


async def test_an_engine_that_is_out_refuses_the_surplus_at_once(bench: Bench) -> None:
    running, *waiting = await _ask(bench, 1, times=4)
    bench.engine.is_out("its core is dead")
    assert [(await call).status_code for call in waiting] == [502] * 3
    bench.engine.gate.set()
    assert (await running).status_code == 200
