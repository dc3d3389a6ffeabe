"""Answers, refusals, and what ends an answer early."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gateway.helpers import Bench, bearer, executor_token, token

CHAIN = (("a" * 16, 20), ("b" * 16, 30))
CONVERSATION = "c" * 16


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_load_is_in_the_facts_of_its_causer_with_the_time_of_its_end(bench: Bench) -> None:
    began_s = bench.gateway.clock()
    for number in range(2):
        await bench.chat(token(f"r{number}", number))
    causer, later = (bench.gateway.facts.of(f"r{number}") for number in range(2))
    loaded_s = bench.gateway.residency.residents["small"].since_s
    assert began_s <= loaded_s <= causer.load_end_at <= bench.gateway.clock()
    assert causer.load_s > 0
    assert (later.load_s, later.load_end_at) == (0, 0)


async def test_an_answer_leaves_facts_prefixes_and_a_resident_model(bench: Bench) -> None:
    answer = await bench.chat(token(chain=CHAIN, conversation=CONVERSATION), text="word " * 100)
    assert answer.status_code == 200
    usage = answer.json()["usage"]
    facts = (await bench.client.get("/fate/v1/facts", headers=bearer(token()))).json()
    assert (facts["requests"], facts["prompt_tokens"]) == (1, usage["prompt_tokens"])
    report = bench.gateway.report()
    assert report.models["small"].state == "ready"
    assert {(key, tokens) for key, tokens, *_ in report.prefixes} == {*CHAIN, (CONVERSATION, usage["total_tokens"])}
    assert report.prefixes[-1][0] == CHAIN[0][0], "the outermost link is the last to go"
    assert report.host_models == ("small",)


async def test_cached_tokens_are_the_engines_count(bench: Bench) -> None:
    await bench.chat(token("r1", 1), text="word " * 100)
    answer = await bench.chat(token("r2", 2), text="word " * 100 + "end")
    cached_tokens = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached_tokens > 100
    assert bench.gateway.facts.of("r2").cached_tokens == cached_tokens
    assert bench.gateway.facts.of("r1").cached_tokens == 0


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_streams_pass_through_and_are_counted(bench: Bench, wants_usage: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if wants_usage else {}
    answer = await bench.chat(token(), stream=True, **options)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    documents = [json.loads(event) for event in events[:-1]]
    assert [bool(document.get("usage")) for document in documents].count(True) == int(wants_usage)
    assert len("".join(d["choices"][0]["delta"]["content"] for d in documents if d["choices"])) == 16
    assert bench.gateway.facts.of("r1").completion_tokens == 4


async def test_the_first_chunk_does_not_wait_for_the_last(bench: Bench) -> None:
    bench.engine.gate.clear()
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    call = asyncio.create_task(bench.app(*_asgi_chat(token(), stream=True), send))
    await _until(lambda: len(sent) > 3)
    assert not call.done()
    bench.engine.gate.set()
    await call
    assert sent[-1] == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(
    ("token_model", "asked", "status", "says"),
    [
        ("small", "other", 403, "the token is for model 'small'"),
        ("missing", "missing", 404, "known models: huge, other, small, third"),
        ("huge", "huge", 400, "needs 9 GB, device gpu-0 has 1 GB"),
    ],
)
async def test_refusals_say_why(bench: Bench, token_model: str, asked: str, status: int, says: str) -> None:
    answer = await bench.chat(token(model=token_model), model=asked)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]
    assert bench.engine.actions == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"[]", b'{"messages": 1}', b'{"messages": [], "temperature": NaN}', b"[" * 50_000),
        *(b'{"messages": [], "max_tokens": "many"}', b'{"messages": [], "stream": true, "stream_options": 5}'),
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_bad_body_is_the_senders_fault(bench: Bench, body: bytes) -> None:
    answer = await bench.client.post("/v1/chat/completions", content=body, headers=bearer(token()))
    assert answer.status_code == 400


async def test_a_draining_device_serves_what_is_bound_to_it(bench: Bench) -> None:
    await bench.client.post("/fate/v1/drain", headers=bearer(executor_token()))
    assert bench.gateway.report().draining
    assert (await bench.chat(token())).status_code == 200
    await bench.client.post("/fate/v1/drain?undo=true", headers=bearer(executor_token()))
    assert not bench.gateway.report().draining


async def test_what_drains_ends_when_nobody_asks_any_more(bench: Bench) -> None:
    bench.engine.gate.clear()
    drained = asyncio.create_task(bench.gateway.drained(0.2))
    await _until(lambda: bench.gateway.draining)
    asked = asyncio.create_task(bench.chat(token()))
    await _until(lambda: bench.gateway.serving.running == 1)
    assert not (await asyncio.wait({drained}, timeout=0.4))[0]
    bench.engine.gate.set()
    assert (await asked).status_code == 200
    await drained


async def test_a_client_that_leaves_frees_the_engine(bench: Bench) -> None:
    bench.engine.gate.clear()
    leaves = asyncio.Event()

    async def send(message: Any) -> None:
        pass

    call = asyncio.create_task(bench.app(*_asgi_chat(token(), leaves=leaves), send))
    await _until(lambda: bench.gateway.serving.running == 1)
    leaves.set()
    await call
    assert bench.gateway.serving.running == 0
    assert bench.gateway.residency.residents["small"].serving == 0
    assert bench.gateway.report().prefixes == ()
    bench.engine.gate.set()
    assert (await bench.chat(token("r2", 2))).status_code == 200


async def test_an_ended_reservation_is_aborted_and_stays_out(bench: Bench) -> None:
    bench.engine.gate.clear()
    call = asyncio.create_task(bench.chat(token("r1", 1)))
    await _until(lambda: bench.gateway.serving.running == 1)
    await bench.client.post("/fate/v1/reservations/r1/end", headers=bearer(executor_token()))
    for answer in (await call, await bench.chat(token("r1", 1))):
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "fate_fenced")
    assert bench.gateway.serving.running == 0


async def test_a_newer_token_aborts_what_it_does_not_list(bench: Bench) -> None:
    bench.engine.gate.clear()
    old = asyncio.create_task(bench.chat(token("r1", 1), stream=True))
    await _until(lambda: bench.gateway.serving.running == 1)
    new = asyncio.create_task(bench.chat(token("r2", 2)))
    answer = await old
    assert "fate_fenced" in answer.text
    assert "[DONE]" not in answer.text
    bench.engine.gate.set()
    assert (await new).status_code == 200


async def test_a_newer_token_lets_live_ones_go_on(bench: Bench) -> None:
    bench.engine.gate.clear()
    old = asyncio.create_task(bench.chat(token("r1", 1)))
    await _until(lambda: bench.gateway.serving.running == 1)
    new = asyncio.create_task(bench.chat(token("r2", 2, live=(1, 2))))
    await _until(lambda: bench.gateway.serving.queued == 1)
    bench.engine.gate.set()
    assert [(await old).status_code, (await new).status_code] == [200, 200]


@pytest.mark.parametrize("streams", [False, True])
async def test_an_engine_that_dies_in_mid_answer(bench: Bench, streams: bool) -> None:
    await bench.chat(token("r1", 1, chain=CHAIN))
    bench.engine.crash_after = 2 if streams else 0
    answer = await bench.chat(token("r2", 2), stream=streams)
    assert "fate_engine_died" in answer.text
    assert "[DONE]" not in answer.text
    assert streams or answer.status_code == 502
    report = bench.gateway.report()
    assert (report.models, report.prefixes, report.running) == ({}, (), 0)
    bench.engine.crash_after = None
    assert (await bench.chat(token("r3", 3))).status_code == 200
    assert bench.gateway.report().loads == 2


async def test_an_engine_that_is_out_refuses_who_asks_and_who_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.chat(token("r0", 1))
    bench.engine.gate.clear()
    tokens = [token(f"r{number}", number + 1, live=(2, 3, 4)) for number in range(1, 4)]
    calls = [asyncio.create_task(bench.chat(held)) for held in tokens]
    await _until(lambda: (bench.gateway.serving.running, bench.gateway.serving.queued) == (1, 2))
    bench.engine.is_out("its core is dead")
    for number, answer in enumerate(await asyncio.gather(*calls[1:]), 2):
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "fate_engine_died")
        assert "its core is dead" in answer.text
        assert bench.gateway.facts.of(f"r{number}").fault == "fate_engine_died"
    report = bench.gateway.report()
    assert report.draining, "nobody should be bound to it"
    bench.engine.is_out("")
    bench.engine.gate.set()
    assert (await calls[0]).status_code == 200, "what runs goes on"
    assert not bench.gateway.report().draining
    assert (await bench.chat(token("r9", 9))).status_code == 200


async def test_a_model_of_its_own_is_not_waited_for_while_the_engine_is_out(bench: Bench) -> None:
    bench.engine.own_models = ("small",)
    bench.engine.is_out("its core is dead")
    keeping = asyncio.create_task(bench.gateway.keep_own_models())
    await asyncio.sleep(0)
    assert bench.engine.actions == []
    keeping.cancel()


async def test_what_a_model_that_goes_had_cached_goes_from_the_report_with_it(bench: Bench) -> None:
    await bench.chat(token(chain=CHAIN))
    assert bench.gateway.report().prefixes
    going = asyncio.Event()
    unload = bench.engine.unload

    async def slowly(model: str) -> None:
        await going.wait()
        await unload(model)

    bench.engine.unload = slowly  # type: ignore[method-assign]
    assert bench.gateway.serving.evict("small")
    report = bench.gateway.report()
    assert (report.models, report.engine_started, report.prefixes) == ({}, {}, ())
    going.set()
    await _until(lambda: not bench.gateway.residency.residents)


async def test_promises_that_an_engine_breaks_are_no_longer_made(bench: Bench) -> None:
    """Its chains say that all is shared; its texts aren't."""
    chain = (("d" * 16, 200),)

    async def ask(number: int, text: str) -> None:
        assert (await bench.chat(token(f"r{number}", number, chain=chain), text=text)).status_code == 200

    await ask(1, "0 " * 500)
    for number in range(2, 5):
        assert dict(entry[:2] for entry in bench.gateway.report().prefixes) == dict(chain)
        await ask(number, f"{number} " * 500)
    # All prompts begin with the same role, which is a token.
    assert sum(tokens for _, tokens, *_ in bench.gateway.report().prefixes) <= 1
    expected_tokens = bench.gateway.totals.expected_tokens
    await ask(5, "5 " * 500)
    assert bench.gateway.totals.expected_tokens <= expected_tokens + 1
    await ask(6, "5 " * 500)
    assert dict(entry[:2] for entry in bench.gateway.report().prefixes) == dict(chain)


async def test_no_tenant_finds_what_another_has_asked(bench: Bench) -> None:
    for number, salt in enumerate(["one", "one", "two", "", "one"]):
        answer = await bench.chat(token(f"r{number}", number, salt=salt), text="word " * 100)
        assert answer.status_code == 200
    cached = [bench.gateway.facts.of(f"r{number}").cached_tokens for number in range(5)]
    assert [tokens > 0 for tokens in cached] == [False, True, False, False, True]


async def test_an_engine_that_can_not_keep_tenants_apart_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.engine.takes_salt = False
    for number, salt in enumerate(["one", "one", "two", "three"]):
        await bench.chat(token(f"r{number}", number, salt=salt))
        assert ("can't keep tenants apart" in caplog.text) == (number >= 2)
    assert caplog.text.count("can't keep tenants apart") == 1


async def test_what_an_engine_has_forgotten_of_one_tenant_is_not_promised(bench: Bench) -> None:
    await bench.chat(token("r1", 1, salt="one", chain=CHAIN[:1]))
    await bench.chat(token("r2", 2, salt="two", chain=CHAIN[1:]))
    bench.engine.on_forgotten("small", "one")
    assert [key for key, *_ in bench.gateway.report().prefixes] == [CHAIN[1][0]]


async def test_the_engine_is_asked_for_the_tokens_model(bench: Bench) -> None:
    """A body may leave it out, and an engine with several then takes one of its own choice."""
    bodies: list[dict[str, Any]] = []
    ask = bench.engine.ask

    def noted(model: str, route: Any, body: dict[str, Any]) -> Any:
        bodies.append(body)
        return ask(model, route, body)

    bench.engine.ask = noted  # type: ignore[method-assign]
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    await bench.client.post("/v1/chat/completions", json=body, headers=bearer(token()))
    assert [body["model"] for body in bodies] == ["small"]


async def test_a_model_that_does_not_load(bench: Bench) -> None:
    bench.engine.refuse_load = True
    answer = await bench.chat(token())
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "fate_load_failed")
    assert bench.gateway.report().models == {}
    bench.engine.refuse_load = False
    assert (await bench.chat(token())).status_code == 200


async def test_the_token_names_what_goes_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, memory_bytes=2e9)
    await bench.chat(token("r1", 1))
    await bench.chat(token("r2", 2, model="other"), model="other")
    await bench.chat(token("r3", 3, model="third", evict=("other",)), model="third")
    assert ("unload", "other") in bench.engine.actions
    assert set(bench.gateway.report().models) == {"small", "third"}


async def test_prefetch_and_evict(bench: Bench) -> None:
    bench.engine.gate.clear()
    call = asyncio.create_task(bench.chat(token()))
    await _until(lambda: bench.gateway.serving.running == 1)
    headers = bearer(executor_token())
    assert (await bench.client.post("/fate/v1/models/other/load", headers=headers)).status_code == 409
    assert (await bench.client.post("/fate/v1/models/small/unload", headers=headers)).status_code == 409
    bench.engine.gate.set()
    await call
    assert (await bench.client.post("/fate/v1/models/other/load", headers=headers)).status_code == 202
    await _until(lambda: "other" in bench.engine._loaded)
    assert set(bench.gateway.report().models) == {"other"}
    assert (await bench.client.post("/fate/v1/models/huge/load", headers=headers)).status_code == 400
    assert (await bench.client.post("/fate/v1/models/other/unload", headers=headers)).status_code == 202
    await _until(lambda: not bench.gateway.residency.residents)


async def test_metrics_and_models(bench: Bench) -> None:
    await bench.chat(token(chain=CHAIN))
    await bench.chat(token(chain=(*CHAIN, ("f" * 32, 5))))
    reader = bearer(token("reader", aud="fleet"))
    text = (await bench.client.get("/metrics", headers=reader)).text
    assert 'fate_requests_total{device="gpu-0"} 2.0' in text
    assert f'fate_expected_cached_tokens_total{{device="gpu-0"}} {sum(tokens for _, tokens in CHAIN):.1f}' in text
    assert 'fate_model_ready{device="gpu-0",model="small"} 1.0' in text
    models = (await bench.client.get("/v1/models", headers=reader)).json()["data"]
    assert [model["id"] for model in models] == ["huge", "other", "small", "third"]
    report = (await bench.client.get("/fate/v1/report", headers=reader)).json()
    assert report["served_requests"] == 2


def _asgi_chat(bearer_token: str, *, leaves: asyncio.Event | None = None, **more: Any) -> tuple[Any, Any]:
    """Scope and receive of a chat request whose client leaves when told to."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **more}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    left = leaves or asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {bearer_token}".encode())],
    }
    return scope, receive
