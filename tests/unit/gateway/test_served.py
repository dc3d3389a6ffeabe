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
from airflow_fate.gateway.engines.base import EngineDied, EngineError, LoadFailed, RequestRefused
from airflow_fate.gateway.engines.pulse import MISSES
from airflow_fate.gateway.engines.served import CACHED_TOKENS, VLLM_SIGNALS, ServedEngine

USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


@dataclass
class Server:
    """What an OpenAI server says, and vLLM's metrics."""

    models: list[str] = field(default_factory=lambda: ["m"])
    is_up: bool = True
    is_slow: bool = False
    """Too slow for a probe, not for an answer."""
    health: int = 200
    key: str = ""
    breaks_off: bool = False
    failure: httpx.Response | None = None
    """Of what is asked."""
    goes_on: asyncio.Event | None = None
    """Awaited in mid-answer."""
    usage: dict[str, Any] = field(default_factory=lambda: USAGE | {"prompt_tokens_details": {"cached_tokens": 8}})
    metrics: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.is_up:
            raise httpx.ConnectError("refused") from ConnectionRefusedError()
        if self.is_slow and request.method == "GET":
            raise httpx.ReadTimeout("late")
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return httpx.Response(401, json={"error": "Unauthorized"})
        if request.url.path == "/health":
            return httpx.Response(self.health)
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
        if self.failure:
            return self.failure
        chunks: list[dict[str, Any]] = [
            {"choices": [{"delta": {"content": "Hi"}}]},
            {"choices": [], "usage": self.usage},
        ]
        return httpx.Response(200, content=self._events(chunks))

    async def _events(self, chunks: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n".encode()
            if self.goes_on:
                await self.goes_on.wait()
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


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refusal_is_the_requests_fault(engine: ServedEngine, server: Server, status: int) -> None:
    server.failure = httpx.Response(status, json={"error": {"message": "too long a prompt"}})
    with pytest.raises(RequestRefused, match="too long a prompt"):
        await ask(engine)


@pytest.mark.parametrize("status", [302, 401, 403, 404, 408, 429, 500, 502, 503])
async def test_what_its_sender_could_not_mend_is_the_engines_fault(
    engine: ServedEngine, server: Server, status: int
) -> None:
    server.failure = httpx.Response(status, json={"error": {"message": "so it is"}})
    with pytest.raises(EngineError, match="so it is") as raised:
        await ask(engine)
    assert not isinstance(raised.value, RequestRefused)


@pytest.mark.parametrize(
    ("code", "is_the_requests"), [(400, True), ("400", True), (500, False), (None, False), ("rate_limit", False)]
)
async def test_an_error_in_a_stream_is_whose_its_code_says(
    engine: ServedEngine, server: Server, code: object, is_the_requests: bool
) -> None:
    event = json.dumps({"error": {"message": "so it is", "code": code}})
    server.failure = httpx.Response(200, text=f"data: {event}\n\ndata: [DONE]\n\n")
    with pytest.raises(EngineError, match="so it is") as raised:
        await ask(engine)
    assert isinstance(raised.value, RequestRefused) == is_the_requests
    assert not is_the_requests or getattr(raised.value, "status", None) == 400


async def test_a_dead_core_is_out_until_it_answers_again(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    await engine.load("m")
    server.health = 503
    await holds(lambda: died == ["m"])
    assert "engine core is dead" in engine.trouble
    for refused in (ask(engine), engine.load("m")):
        with pytest.raises(EngineDied, match="engine core is dead"):
            await refused
    assert server.asked == []
    server.health = 200
    await holds(lambda: not engine.trouble)
    await engine.load("m")
    assert await ask(engine)


async def test_a_server_without_a_health_route_is_well(engine: ServedEngine, server: Server) -> None:
    server.health = 404
    await engine.load("m")


async def test_a_late_probe_is_no_death_and_several_are(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    await engine.load("m")
    server.is_slow = True
    await engine._probe()
    server.is_slow = False
    await engine._probe()
    assert (died, engine.trouble) == ([], "")
    server.is_slow = True
    await holds(lambda: died == ["m"])
    assert "no sign of life" in engine.trouble
    server.is_slow = False
    await holds(lambda: not engine.trouble)


async def test_no_silence_counts_while_answers_flow(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    await engine.load("m")
    server.is_slow = True
    for _ in range(3 * MISSES):
        await ask(engine)
        await engine._probe()
    assert died == []


async def test_an_answer_goes_on_while_its_engine_is_thought_dead(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    await engine.load("m")
    server.goes_on = asyncio.Event()
    answer = asyncio.create_task(ask(engine))
    await holds(lambda: bool(server.asked))
    server.is_slow = True
    await holds(lambda: died == ["m"])
    server.goes_on.set()
    assert (await answer)[-1]["usage"]


async def test_late_metrics_do_not_hide_a_restart(engine: ServedEngine, server: Server) -> None:
    died: list[str] = []
    engine.on_death = died.append
    server.metrics = "process_start_time_seconds 1\n"
    await engine.load("m")
    server.metrics = "not Prometheus{"
    await holds(lambda: "started" in engine.missing)
    assert died == []
    server.metrics = "process_start_time_seconds 2\n"
    await holds(lambda: died == ["m"])


async def test_a_key_that_is_refused_is_said_once_and_one_that_comes_is_shown(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["old"]
    server.key = "new"
    engine = ServedEngine(
        "http://engine", ["m"], VLLM_SIGNALS, key=lambda: keys[0], transport=httpx.MockTransport(server)
    )
    with caplog.at_level(logging.WARNING):
        with pytest.raises(EngineDied, match="engine_key_file"):
            await engine.load("m")
        for _ in range(3):
            await engine._probe()
    assert sum("engine_key_file" in message for message in caplog.messages) == 1
    keys[0] = "new"
    await holds(lambda: not engine.trouble)
    await engine.load("m")
    assert await ask(engine)
    await engine.close()


async def test_a_text_may_have_separators_of_its_own(engine: ServedEngine, server: Server) -> None:
    text = "one\u2028two\x85three"
    event = json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}, ensure_ascii=False)
    server.failure = httpx.Response(200, content=f"data:{event}\r\n\r\ndata: [DONE]\r\n\r\n".encode())
    (document,) = await ask(engine)
    assert document["choices"][0]["delta"]["content"] == text


async def test_an_answer_that_breaks_off_is_no_other_engine_where_its_start_tells(
    engine: ServedEngine, server: Server
) -> None:
    died: list[str] = []
    engine.on_death = died.append
    server.metrics = "process_start_time_seconds 1\n"
    await engine.load("m")
    server.breaks_off = True
    with pytest.raises(EngineDied):
        await ask(engine)
    await engine._probe()
    assert died == []


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


async def test_an_engine_that_leaves_out_zeros_tells_its_cached_tokens(engine: ServedEngine, server: Server) -> None:
    await engine.load("m")
    await ask(engine)
    server.usage = USAGE | {"prompt_tokens_details": None}
    await ask(engine)
    assert CACHED_TOKENS not in engine.missing


async def test_a_load_that_takes_too_long_names_the_setting(server: Server) -> None:
    transport = httpx.MockTransport(server)
    engine = ServedEngine("http://engine", ["other"], VLLM_SIGNALS, load_timeout_s=0.05, transport=transport)
    with pytest.raises(LoadFailed, match=r"within 0\.05 s, the device's load_timeout_s"):
        await engine.load("other")
    await engine.close()


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
        stored: dict[str, Any] = {"type": "BlockStored", "block_hashes": [b"a", b"b"], "parent_block_hash": None}
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
