"""Whatever an engine says, a request ends with an answer or a clear refusal, and the gateway goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_fate.gateway.artifacts import Artifacts
from airflow_fate.gateway.core import DeviceTraits, Gateway
from airflow_fate.gateway.engines import llamacpp, managed, served
from airflow_fate.gateway.engines.base import MOST_TOKENS, Engine, read_usage
from airflow_fate.gateway.engines.llamacpp import LlamaCppEngine
from airflow_fate.gateway.engines.managed import ManagedEngine
from airflow_fate.gateway.engines.served import VLLM_SIGNALS, ServedEngine
from airflow_fate.gateway.http.app import create_app
from airflow_fate.gateway.http.auth import Guard
from airflow_fate.gateway.serving.host_cache import HostCache
from tests.unit.gateway.helpers import DEVICE, SECRET, bearer, token

MODEL = "small"
GOOD = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}
ODD = [b"", b"<html>busy</html>", b"null", b"[]", b'"text"', b"7", b'{"a": NaN}', b"\xff\xfe", b"[" * 50_000]
ODD_NUMBERS: list[Any] = [None, -5, 10**30, 1e308, "12", "NaN", True, [], {}, 2.5]


class Server:
    """What answers in an engine's place; each part can be made to say anything."""

    def __init__(self) -> None:
        self.answer = httpx.Response(200, json=GOOD)
        self.said: dict[str, httpx.Response] = {
            "/v1/models": httpx.Response(200, json={"data": [{"id": MODEL}]}),
            "/health": httpx.Response(200),
            "/metrics": httpx.Response(200, text="process_start_time_seconds 1\n"),
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        said = self.said.get(request.url.path, self.answer)
        return httpx.Response(said.status_code, headers=said.headers, content=said.content)


class Case:
    """A gateway before that server, by one of the drivers."""

    def __init__(self, folder: Path, driver: str, server: Server) -> None:
        self.server = server
        transport = httpx.MockTransport(server)
        self.engine = _engine(driver, transport)
        traits = DeviceTraits(DEVICE, "gpu", driver, 2e9, 8192, 4, {MODEL: 1e9})
        artifacts = Artifacts(folder, budget_bytes=1000)
        self.gateway = Gateway(traits, self.engine, artifacts, HostCache(2e9, traits.weights_bytes))
        app = create_app(self.gateway, Guard(SECRET, DEVICE))
        # An exception that nobody handles is raised here.
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        self.fence = 0

    async def ask(self, **more: Any) -> httpx.Response:
        self.fence += 1
        body = {"model": MODEL, "messages": [], **more}
        headers = bearer(token(f"r{self.fence}", self.fence, model=MODEL))
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def is_well(self) -> bool:
        self.server.answer = httpx.Response(200, json=GOOD)
        self.gateway.report().model_dump_json()
        return (await self.ask()).status_code == 200


def _engine(driver: str, transport: httpx.MockTransport) -> Engine:
    if driver in ("vllm", "openai"):
        return ServedEngine("http://engine", [MODEL], VLLM_SIGNALS if driver == "vllm" else {}, transport=transport)

    class Process:
        stdin = None
        returncode = 0

        async def wait(self) -> int:
            return 0

    process: Any = Process()

    async def nothing() -> None:
        await asyncio.Event().wait()

    if driver == "vllm-managed":

        class Managed(ManagedEngine):
            async def _start(self, model: str) -> None:
                inner = ServedEngine("http://engine", [model], VLLM_SIGNALS, transport=transport)
                await inner.load(model)
                self._servers[model] = managed._Server(process, inner, asyncio.create_task(nothing()))

        return Managed({MODEL: "file"}, ["vllm"])

    class LlamaCpp(LlamaCppEngine):
        async def load(self, model: str) -> None:
            client = httpx.AsyncClient(transport=transport, base_url="http://engine")
            self._children[model] = llamacpp._Child(process, client, asyncio.create_task(nothing()), None)

    return LlamaCpp({MODEL: Path("file")}, threads=1, slots=4, context_tokens=1, batch_tokens=2048, cache_ram_mib=0)


@pytest.fixture(params=["vllm", "openai", "vllm-managed", "llamacpp"])
async def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    monkeypatch.setattr(served, "PERIOD_S", 0.01)
    garbage_case = Case(tmp_path, request.param, Server())
    yield garbage_case
    await garbage_case.gateway.serving.close()


@pytest.mark.parametrize("content", ODD, ids=lambda content: repr(content[:12]))
@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_that_is_none_is_the_devices_fault(case: Case, content: bytes, streams: bool) -> None:
    case.server.answer = httpx.Response(200, content=b"data: " + content + b"\n\n" if streams else content)
    answer = await case.ask(stream=streams)
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "fate_engine_error")
    assert case.gateway.facts.of("r1").fault == "fate_engine_error"
    assert await case.is_well()


@pytest.mark.parametrize("content", ODD, ids=lambda content: repr(content[:12]))
async def test_a_failure_without_a_document_is_the_devices_fault(case: Case, content: bytes) -> None:
    case.server.answer = httpx.Response(500, content=content)
    answer = await case.ask()
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "fate_engine_error")
    assert case.gateway.facts.of("r1").fault
    assert await case.is_well()


async def test_what_is_packed_wrongly_is_the_devices_fault(case: Case) -> None:
    case.server.said["/v1/chat/completions"] = Packed()
    answer = await case.ask()
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "fate_engine_error")
    del case.server.said["/v1/chat/completions"]
    assert await case.is_well()


class Packed(httpx.Response):
    """Says that it is packed, and isn't."""

    def __init__(self) -> None:
        super().__init__(200)
        self.headers = httpx.Headers({"Content-Encoding": "gzip"})
        self._content = b"not gzip"


@pytest.mark.parametrize(
    "events",
    [
        "",
        ": ping\n\n",
        'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n',
        'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: {"choices": [{"del',
    ],
    ids=["empty", "only a comment", "no end", "cut"],
)
async def test_a_stream_that_has_no_end_is_no_answer(case: Case, events: str) -> None:
    case.server.answer = httpx.Response(200, text=events)
    answer = await case.ask(stream=True)
    assert "fate_engine_error" in answer.text
    assert "[DONE]" not in answer.text
    assert case.gateway.facts.of("r1").fault
    assert await case.is_well()


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=repr)
async def test_odd_counts_do_not_reach_the_facts(case: Case, number: Any) -> None:
    usage = {"prompt_tokens": number, "completion_tokens": number, "prompt_tokens_details": {"cached_tokens": number}}
    case.server.answer = httpx.Response(
        200, json=GOOD | {"usage": usage, "timings": {"prompt_ms": number, "predicted_ms": number}}
    )
    assert (await case.ask()).status_code == 200
    facts = case.gateway.facts.of("r1")
    for count in (facts.prompt_tokens, facts.cached_tokens, facts.completion_tokens):
        assert 0 <= count <= MOST_TOKENS
    assert facts.cached_tokens <= facts.prompt_tokens
    assert all(isfinite(time_s) and time_s >= 0 for time_s in (facts.prefill_s, facts.decode_s, facts.engine_s))
    assert await case.is_well()


@pytest.mark.parametrize("usage", [5, "many", [1], True, {"prompt_tokens_details": 3}, {"prompt_tokens_details": [1]}])
@pytest.mark.parametrize("timings", [{}, None, 7, "fast", []])
async def test_odd_usages_are_passed_on_and_count_nothing(case: Case, usage: Any, timings: Any) -> None:
    case.server.answer = httpx.Response(200, json=GOOD | {"usage": usage, "timings": timings})
    assert (await case.ask()).json()["usage"] == usage
    assert case.gateway.facts.of("r1").prompt_tokens == 0
    assert await case.is_well()


@pytest.mark.parametrize("choices", [None, 5, "x", [], [None], [{}], {}])
async def test_odd_choices_are_passed_on(case: Case, choices: Any) -> None:
    event = json.dumps({"choices": choices})
    case.server.answer = httpx.Response(200, text=f"data: {event}\n\ndata: [DONE]\n\n")
    assert "[DONE]" in (await case.ask(stream=True)).text
    assert await case.is_well()


MODELS = [*ODD, b"{}", b'{"data": 5}', b'{"data": ["small"]}', b'{"data": [{"name": "small"}]}', b'{"data": [[]]}']
METRICS = [
    *ODD,
    b"{}{}{}\n",
    b"process_start_time_seconds NaN\n",
    b"process_start_time_seconds one\n",
    b'vllm:num_requests_running{engine="0 2\n',
    b"# TYPE x histogram\nx_bucket 1\n",
    b"vllm:engine_sleep_state 0\nvllm:num_requests_running +Inf\n",
]


@pytest.mark.parametrize("content", METRICS, ids=lambda content: repr(content[:20]))
async def test_odd_metrics_tell_nothing_and_change_nothing(case: Case, content: bytes) -> None:
    assert await case.is_well()
    case.server.said["/metrics"] = httpx.Response(200, content=content)
    if isinstance(case.engine, ServedEngine):
        await case.engine._probe()
    assert all(isfinite(value) for value in case.engine.signals.values())
    assert await case.is_well()


@pytest.mark.parametrize("content", MODELS, ids=lambda content: repr(content[:20]))
async def test_an_odd_list_of_models_is_a_server_that_is_not_there(case: Case, content: bytes) -> None:
    assert await case.is_well()
    if not isinstance(case.engine, ServedEngine):
        return
    good, case.server.said["/v1/models"] = case.server.said["/v1/models"], httpx.Response(200, content=content)
    async with asyncio.timeout(10):
        while not case.engine.trouble:
            await case.engine._probe()
    refused = await case.ask()
    assert (refused.status_code, refused.json()["error"]["type"]) == (502, "fate_engine_died")
    case.server.said["/v1/models"] = good
    await case.engine._probe()
    assert await case.is_well()


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=repr)
def test_usage_is_bounded(number: Any) -> None:
    usage = read_usage({"usage": {"prompt_tokens": number, "completion_tokens": 1}})
    assert usage is not None
    assert isinstance(usage.prompt_tokens, int)
    assert 0 <= usage.prompt_tokens <= MOST_TOKENS
