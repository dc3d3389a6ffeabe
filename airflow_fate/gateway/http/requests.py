"""What may be asked of an engine? OpenAI's requests, each key of its type and within bounds; others if they are small.

An engine reads what it is sent with code that was never meant for strangers. What is passed on is the request as it
came, so types are strict: nothing here is read more kindly than an engine would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from airflow_fate.gateway.engines.base import MOST_TOKENS, Route
from airflow_fate.gateway.http.errors import invalid
from airflow_fate.messages import explain

OTHER_CHARS = 16 * 1024
"""The value of a key that isn't known here, as JSON."""
OTHER_KEYS = 64
SHAPE_CHARS = 256 * 1024
"""All that tells the form of an answer, as JSON: tools, schemas, grammars."""
GRAMMAR_CHARS = 64 * 1024
GRAMMAR_DEPTH = 32
GRAMMAR_OPTIONS = 128
"""llama.cpp looks through all ways to read what is optional or repeated, for all its clients at once."""
SHAPE_ITEMS = 512
"""Of one enumeration, or the properties of one object."""
TOLD_CHARS = 500
LIMITS_OF_ANSWER = ("max_tokens", "max_completion_tokens", "n_predict")
"""One name for OpenAI's older API, one for its newer, one for llama.cpp."""
_SHAPES = (
    *("tools", "functions", "response_format", "json_schema", "grammar"),
    *("guided_json", "guided_grammar", "guided_regex", "guided_choice", "structured_outputs"),
)
_GRAMMARS = {"grammar", "pattern", "regex", "guided_grammar", "guided_regex"}
_ANSWERS = ("n", "best_of", "n_cmpl")

_CHARS_PER_TOKEN = 4

Name = Annotated[str, StringConstraints(max_length=256)]
Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
Answers = Annotated[int, Field(ge=1, le=1024)]
Penalty = Annotated[float, Field(ge=-10, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]
Stop = Annotated[str, StringConstraints(max_length=1024)]


def guessed_tokens(route: Route, body: dict[str, Any]) -> float:
    """How long the prompt may be, before the engine has counted it: a token is some four characters of its JSON."""
    return len(json.dumps(body.get("prompt" if route == "completions" else "messages"))) / _CHARS_PER_TOKEN


class _RequestPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Message(_RequestPart):
    role: Name
    content: str | list[dict[str, Any]] | None = None
    name: Name | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: Name | None = None


class StreamOptions(_RequestPart):
    include_usage: bool | None = None


class _Request(_RequestPart):
    """What both routes know. A key that is null is as good as left out."""

    model: Name | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n_predict: Tokens | None = None
    n: Answers | None = None
    best_of: Answers | None = None
    n_cmpl: Answers | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    top_k: Annotated[int, Field(ge=-1, le=MOST_TOKENS)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=64)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=1024)] | None = None
    user: Annotated[str, StringConstraints(max_length=1024)] | None = None
    response_format: dict[str, Any] | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_grammar: str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    structured_outputs: dict[str, Any] | None = None
    cache_salt: Name | None = None


class ChatRequest(_Request):
    messages: list[Message]
    tools: Annotated[list[dict[str, Any]], Field(max_length=256)] | None = None
    tool_choice: Name | dict[str, Any] | None = None
    functions: Annotated[list[dict[str, Any]], Field(max_length=256)] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=100)] | None = None


class CompletionRequest(_Request):
    prompt: str | list[str] | list[int] | list[list[int]]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=100)] | None = None


def checked(route: Route, body: dict[str, Any], sequences: int, context_tokens: int) -> dict[str, Any]:
    """The request as it may be passed on.

    :param sequences: how many answers may be worked on at once.
    :param context_tokens: what prompt and answer have together; 0 where the engine itself looks after that.
    :raises Refusal: when it is at fault, with the key.
    """
    kind = ChatRequest if route == "chat/completions" else CompletionRequest
    try:
        asked = kind.model_validate(body)
    except ValidationError as error:
        raise invalid(explain(error)[:TOLD_CHARS]) from error
    _check_others(asked.model_extra or {})
    _check_shapes(body)
    if (wanted := _sequences(body)) > sequences:
        raise invalid(
            f"{', '.join(_ANSWERS)}, prompt: {wanted} answers at once, but the task has {sequences} sequences"
        )
    if not context_tokens:
        return body
    # An engine would go on to the end of its context and no further; some reserve or compute for more.
    limits = {name: min(body[name], context_tokens) for name in LIMITS_OF_ANSWER if body.get(name) is not None}
    return body | limits


def _check_others(others: dict[str, Any]) -> None:
    if len(others) > OTHER_KEYS:
        raise invalid(f"{len(others)} keys that are not OpenAI's, {OTHER_KEYS} are allowed")
    for name, value in others.items():
        if len(name) > 256 or _chars(value) > OTHER_CHARS:
            raise invalid(f"{name[:80]}: larger than {OTHER_CHARS} characters, of a key that isn't OpenAI's")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise invalid(f"{name[:80]}: too large a number")


def _check_shapes(body: dict[str, Any]) -> None:
    shapes = {name: body[name] for name in _SHAPES if body.get(name) is not None}
    if _chars(shapes) > SHAPE_CHARS:
        raise invalid(f"{', '.join(shapes)}: larger than {SHAPE_CHARS} characters")
    for name, grammar in _grammars(body):
        if len(grammar) > GRAMMAR_CHARS:
            raise invalid(f"{name}: larger than {GRAMMAR_CHARS} characters")
        if _depth(grammar) > GRAMMAR_DEPTH:
            raise invalid(f"{name}: nested more than {GRAMMAR_DEPTH} deep")
        if sum(grammar.count(mark) for mark in "?*+{") > GRAMMAR_OPTIONS:
            raise invalid(f"{name}: more than {GRAMMAR_OPTIONS} options and repetitions")
    for name, shape in shapes.items():
        if any(len(part) > SHAPE_ITEMS for part in _parts(shape)):
            raise invalid(f"{name}: more than {SHAPE_ITEMS} items in one of its parts")


def _grammars(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for part in _parts({name: value for name, value in body.items() if name not in ("messages", "prompt")}):
        if isinstance(part, dict):
            yield from ((key, text) for key, text in part.items() if key in _GRAMMARS and isinstance(text, str))


def _parts(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    """All objects and arrays of it."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list):
            yield part
            waiting += part.values() if isinstance(part, dict) else part


def _depth(grammar: str) -> int:
    """How deep its brackets are nested; those within texts count too."""
    depth = deepest = 0
    for mark in re.findall(r"[(\[{}\])]", grammar):
        depth = depth + 1 if mark in "([{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _sequences(body: dict[str, Any]) -> int:
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * max(body.get(name) or 1 for name in _ANSWERS)


def _chars(value: Any) -> int:
    return len(json.dumps(value))
