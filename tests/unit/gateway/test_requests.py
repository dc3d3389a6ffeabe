"""What may be asked of an engine, and which key is at fault otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_fate.gateway.engines.base import MOST_TOKENS
from airflow_fate.gateway.http.requests import GRAMMAR_CHARS, GRAMMAR_DEPTH, LIMITS_OF_ANSWER, OTHER_CHARS, SHAPE_CHARS
from tests.unit.gateway.helpers import CONTEXT_TOKENS, Bench, bearer, token


def _schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


WRONG: dict[str, list[Any]] = {
    "messages": [1, "x", [1], [{}], [{"role": 5}], [{"role": "user", "content": 5}], [{"role": "x" * 300}], None],
    "model": [5, [], {}, "x" * 300],
    "stream": ["yes", 1, []],
    "stream_options": [5, [], {"include_usage": "yes"}],
    "max_tokens": ["many", -1, 1.5, True, 10**30, MOST_TOKENS + 1, [], {}],
    "max_completion_tokens": ["many", -5],
    "n_predict": ["many", -5],
    "temperature": ["hot", -1, 1e9, [], True],
    "top_p": [2, -1, "x"],
    "n": [0, -1, 10**9, "x", 2],
    "best_of": [2],
    "n_cmpl": [2],
    "seed": ["x", 2**70, 0.5],
    "stop": [5, [5], ["x"] * 1000, "x" * 10_000],
    "logit_bias": [5, {"1": "x"}, {str(i): 0.0 for i in range(5000)}],
    "logprobs": ["x", 3],
    "top_logprobs": [1000, -1],
    "tools": [5, [5], [{}] * 1000, [{"description": "x" * SHAPE_CHARS}]],
    "tool_choice": [5, []],
    "response_format": [
        *(5, [], "json"),
        {"type": "json_schema", "json_schema": {"schema": _schema(60)}},
        {"type": "json_schema", "json_schema": {"schema": {"pattern": "(" * 1000 + ")" * 1000}}},
        {"type": "json_schema", "json_schema": {"schema": {"description": "x" * SHAPE_CHARS}}},
    ],
    "json_schema": [
        *(5, _schema(60), {"enum": [str(number) for number in range(5000)]}),
        {"properties": {str(number): {} for number in range(5000)}},
    ],
    "grammar": [
        5,
        "root ::= " + '"a"? ' * 1000,
        "root ::= " + "(" * (GRAMMAR_DEPTH + 1) + ")" * (GRAMMAR_DEPTH + 1),
        "x" * (GRAMMAR_CHARS + 1),
    ],
    "guided_choice": [[str(number) for number in range(5000)], 5, "x"],
    "guided_regex": ["a?" * 1000, "(" * 5000 + ")" * 5000],
    "structured_outputs": [{"grammar": "(" * 5000}],
    "strange": ["x" * OTHER_CHARS, [0] * OTHER_CHARS, {"a": "x" * OTHER_CHARS}, 2**64, -(2**70)],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
async def test_a_wrong_value_is_the_senders_fault_and_its_key_is_named(bench: Bench, key: str, value: Any) -> None:
    answer = await bench.chat(token(sequences=1), **{"max_tokens": 4, "messages": [], key: value})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    message = answer.json()["error"]["message"]
    assert key in message or "nested more than" in message
    assert len(message) < 1000
    assert bench.engine.actions == []


RIGHT: list[dict[str, Any]] = [
    {"stream": None, "stop": None, "n": None, "tools": None, "max_tokens": None, "response_format": None},
    {"temperature": 0, "top_p": 1, "seed": 5, "stop": ["a", "b"], "logit_bias": {"1": -100}, "user": "me"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}]},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": _schema(10)}}], "tool_choice": "auto"},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _schema(10)}}},
    {"grammar": 'root ::= ("a" | "b")*'},
    {"chat_template_kwargs": {"enable_thinking": False}, "repetition_penalty": 1.1, "ignore_eos": True},
    {"n": 2},
]


@pytest.mark.parametrize("more", RIGHT, ids=lambda more: ", ".join(more))
async def test_what_clients_send_is_passed_on(tmp_path: Path, more: dict[str, Any]) -> None:
    bench = Bench(tmp_path, max_seqs=2)
    assert (await bench.chat(token(), **more)).status_code == 200


@pytest.mark.parametrize("prompt", ["Hi", [1, 2, 3], ["Hi"], [[1, 2]]])
async def test_a_completion_takes_a_text_or_tokens(bench: Bench, prompt: Any) -> None:
    body = {"prompt": prompt, "max_tokens": 2}
    assert (await bench.client.post("/v1/completions", json=body, headers=bearer(token()))).status_code == 200


@pytest.mark.parametrize("prompt", [None, 5, {}, [{}], ["Hi", "there"], [[1], [2]], [1, "x"]])
async def test_other_prompts_are_refused_and_several_need_sequences(bench: Bench, prompt: Any) -> None:
    body = {"prompt": prompt, "max_tokens": 2}
    answer = await bench.client.post("/v1/completions", json=body, headers=bearer(token(sequences=1)))
    assert answer.status_code == 400
    assert "prompt" in answer.json()["error"]["message"]


@pytest.mark.parametrize("key", LIMITS_OF_ANSWER)
async def test_no_answer_is_longer_than_the_context(bench: Bench, key: str) -> None:
    asked: list[dict[str, Any]] = []
    ask = bench.engine.ask

    def noted(model: str, route: Any, body: dict[str, Any]) -> Any:
        asked.append(body)
        return ask(model, route, body)

    bench.engine.ask = noted  # type: ignore[method-assign]
    limits: dict[str, Any] = {"max_tokens": None, key: MOST_TOKENS}
    await bench.chat(token(), **limits)
    assert asked[0][key] == CONTEXT_TOKENS
