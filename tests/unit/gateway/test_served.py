"""A gateway before an engine that runs by itself: a fake server, which can be away, start anew, and tell less."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
import zmq

from airflow_fate.gateway.engines import served
from airflow_fate.gateway.engines.base import EngineDied, LoadFailed, RequestRefused
from airflow_fate.gateway.engines.served import CACHED_TOKENS, VLLM_SIGNALS, ServedEngine

USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


@dataclass
class Server:
    """What an OpenAI server says, and vLLM's metrics."""

    models: list[str] = field(default_factory=lambda: ["m"])
    is_up: bool = True
    breaks_off: bool = False
    usage: dict[str, Any] = field(default_factory=lambda: USAGE | {"prompt_tokens_details": {"cached_tokens": 8}})
    metrics: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.is_up:
            raise httpx.ConnectError("refused")
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": name} for name in self.models]})
        if request.url.path == "/metrics":
            return httpx.Response(200, text=self.metrics)
        body = json.loads(request.content)
        if request.url.path == "/v1/load_lora_adapter":
            if body["lora_path"] != "/adapters/tuned":
                return httpx.Response(400, json={"error": {"message": "no adapter there"}})
            self.models.append(body["lora_name"])
            return httpx.Response(200)
        if request.url.path == "/v1/unload_lora_adapter":
            self.models.remove(body["lora_name"])
            return httpx.Response(200)
        if request.url.path == "/tokenize":
            return httpx.Response(200, json={"tokens": self.tokens})
        self.asked.append(body)
        if body["model"] not in self.models:
            return httpx.Response(404, json={"error": {"message": "no such model"}})
        chunks = [{"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [], "usage": self.usage}]
        return httpx.Response(200, content=self._events(chunks))

    async def _events(self, chunks: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n".encode()
            if self.breaks_off:
                raise httpx.ReadError("cut")
        yield b"data: [DONE]\n\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(served, "PERIOD_S", 0.01)
    return Server()


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[ServedEngine]:
    engine = ServedEngine(
        "http://engine",
        ["m"],
        VLLM_SIGNALS,
        adapters={"tuned": "/adapters/tuned", "lost": "/nowhere"},
        transport=httpx.MockTransport(server),
    )
    yield engine
    await engine.close()


async def ask(engine: ServedEngine, model: str = "m", **more: Any) -> list[dict[str, Any]]:
    body = {"model": model, "stream": True, "messages": []} | more
    return [document async for document in engine.ask(model, "chat/completions", body)]


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_model_is_ready_when_the_server_lists_it(engine: ServedEngine, server: Server) -> None:
    server.is_up = False
    loading = asyncio.create_task(engine.load("m"))
    assert not (await asyncio.wait({loading}, timeout=0.1))[0]
    server.is_up = True
    await loading


async def test_answers_pass_through_with_what_the_client_asked_for(engine: ServedEngine, server: Server) -> None:
    documents = await ask(engine, cache_salt="tenant-1")
    assert documents[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
    assert server.asked[0]["cache_salt"] == "tenant-1"
    assert CACHED_TOKENS not in engine.missing


async def test_a_refusal_is_the_requests_fault(engine: ServedEngine) -> None:
    with pytest.raises(RequestRefused, match="no such model"):
        await ask(engine, "other")


@pytest.mark.parametrize(
    "trouble",
    [
        {"is_up": False},
        {"models": []},
        {"metrics": "process_start_time_seconds 2\n"},
        {"metrics": "process_start_time_seconds 1\nvllm:prefix_cache_hits_total 3\n"},
    ],
    ids=["away", "without its model", "started later", "counts anew"],
)
async def test_an_engine_that_is_another_one_has_empty_caches(
    engine: ServedEngine, server: Server, trouble: dict[str, Any]
) -> None:
    died: list[str] = []
    engine.on_death = died.append
    server.metrics = "process_start_time_seconds 1\nvllm:prefix_cache_hits_total 5\n"
    await engine.load("m")
    await holds(lambda: engine.signals.get("prefix_hits") == 5)
    for name, value in trouble.items():
        setattr(server, name, value)
    await holds(lambda: died == ["m"])


async def test_an_answer_that_breaks_off_is_the_engines_death(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    await engine.load("m")
    server.breaks_off = True
    with pytest.raises(EngineDied):
        await ask(engine)
    assert died == ["m"]


async def test_signals_are_read_under_old_names_and_missing_ones_told_once(
    engine: ServedEngine, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.metrics = 'vllm:gpu_cache_usage_perc{engine="0"} 0.25\nvllm:num_requests_running{engine="0"} 2\n'
    server.usage = USAGE
    with caplog.at_level(logging.WARNING):
        await engine.load("m")
        await holds(lambda: engine.signals == {"kv_usage": 0.25, "running": 2.0})
        await ask(engine)
        await ask(engine)
    assert engine.missing == {CACHED_TOKENS, "waiting", "prefix_queries", "prefix_hits", "started"}
    assert sum("does not tell cached_tokens" in message for message in caplog.messages) == 1


async def test_adapters_come_and_go_at_runtime(engine: ServedEngine, server: Server) -> None:
    await engine.load("tuned")
    assert server.models == ["m", "tuned"]
    await ask(engine, "tuned")
    await engine.unload("tuned")
    assert server.models == ["m"]
    with pytest.raises(LoadFailed, match="no adapter there"):
        await engine.load("lost")


async def test_an_engine_that_somebody_put_to_sleep_is_not_ready(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    await engine.load("m")
    server.metrics = 'vllm:engine_sleep_state{sleep_state="awake"} 0\nvllm:engine_sleep_state{sleep_state="x"} 1\n'
    await holds(lambda: died == ["m"])
    loading = asyncio.create_task(engine.load("m"))
    assert not (await asyncio.wait({loading}, timeout=0.1))[0]
    server.metrics = 'vllm:engine_sleep_state{sleep_state="awake"} 1\n'
    await loading


async def test_events_tell_which_prompts_are_cached(server: Server) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        engine = ServedEngine(
            "http://engine",
            ["m"],
            VLLM_SIGNALS,
            events_url=f"tcp://127.0.0.1:{port}",
            transport=httpx.MockTransport(server),
        )
        changes: list[int] = []
        engine.on_cache_change = lambda: changes.append(1)
        await engine.load("m")
        server.tokens = [1, 2, 3, 4, 5]
        stored = {"type": "BlockStored", "block_hashes": [b"a", b"b"], "parent_block_hash": None}
        stored |= {"token_ids": [1, 2, 3, 4], "block_size": 2, "lora_id": None, "medium": "GPU"}
        number = 0

        def publish(*events: dict[str, Any]) -> None:
            publisher.send_multipart([b"", number.to_bytes(8, "big"), msgspec.msgpack.encode([0.0, events])])

        async def cached() -> bool:
            prompt = await engine.prompt("m", {"messages": []})
            return bool(prompt.blocks) and engine.holds("m", prompt)

        async with asyncio.timeout(10):
            # A subscription takes a moment; what was sent before it is not heard.
            while not await cached():
                publish(stored)
                await asyncio.sleep(0.01)
        number = 1
        publish({"type": "BlockRemoved", "block_hashes": [b"b"], "medium": "GPU"}, stored)
        await holds(lambda: bool(changes))
        assert await cached()
        number = 7
        publish({"type": "BlockStored", **stored, "block_hashes": [b"c"], "token_ids": [8, 9]})
        async with asyncio.timeout(10):
            while await cached():
                await asyncio.sleep(0.01)
        await engine.close()
