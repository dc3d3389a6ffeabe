"""What did a span ask, and what was the answer? By the semantic conventions for GenAI, older names included.

Lengths are those that the provider counted; where it counted none, they are estimated from the texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_fate.messages import digest
from airflow_fate.simulator.otel.spans import Span

CHARS_PER_TOKEN = 4
OPERATION = "gen_ai.operation.name"
MODEL = "gen_ai.request.model"
_ASKS = ("chat", "text_completion", "generate_content")
_TOOL = "execute_tool"
_MODELS = (MODEL, "gen_ai.response.model")
_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_INPUT, _OUTPUT, _OUTPUT_TEXT = "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.output.text"
_SYSTEM = "gen_ai.system_instructions"
_MOST_TOKENS = 10**9


@dataclass(frozen=True)
class Message:
    """A message of a prompt.

    :param key: equal keys mean the same role and the same text.
    """

    role: str
    text: str

    @property
    def key(self) -> str:
        return digest(f"{self.role}\x1f{self.text}")


@dataclass(frozen=True)
class Call:
    """A call of a model, or of a tool, which has no model.

    :param messages: of the prompt; empty where texts were not recorded.
    :param answer: its text; empty where that was not recorded.
    """

    span: Span
    model: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    messages: tuple[Message, ...] = ()
    answer: str = ""

    @property
    def is_llm(self) -> bool:
        return bool(self.model)


def call_of(span: Span) -> Call | None:
    """The call that a span stands for; None for spans of agents, requests and the like.

    :raises FileError: naming the span and the attribute.
    """
    attributes = span.attributes
    operation = attributes.get(OPERATION)
    if operation == _TOOL:
        return Call(span)
    if operation not in _ASKS and not (operation is None and attributes.get(MODEL)):
        return None
    model = next((attributes[name] for name in _MODELS if attributes.get(name)), None)
    if not isinstance(model, str):
        raise span.error(f"attributes.{MODEL}", f"must name the model, got {model!r}")
    messages = (*_messages(span, _SYSTEM), *_messages(span, _INPUT))
    answer = str(attributes.get(_OUTPUT_TEXT) or "".join(message.text for message in _messages(span, _OUTPUT)))
    asked = "".join(message.text for message in messages)
    return Call(
        span,
        model,
        _tokens(span, _INPUT_TOKENS, asked, _INPUT),
        _tokens(span, _OUTPUT_TOKENS, answer, _OUTPUT),
        messages,
        answer,
    )


def _tokens(span: Span, names: Sequence[str], text: str, text_name: str) -> int:
    for name in names:
        value = span.attributes.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
            raise span.error(f"attributes.{name}", f"must be a number of tokens, got {value!r}")
        return value
    if not text:
        raise span.error(f"attributes.{names[0]}", f"is missing, and so is the text in {text_name}")
    return max(1, len(text) // CHARS_PER_TOKEN)


def _messages(span: Span, name: str) -> list[Message]:
    raw = span.attributes.get(name)
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raise span.error(f"attributes.{name}", "must be a list of messages as JSON") from None
    if raw is None:
        return []
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise span.error(f"attributes.{name}", f"must be a list of messages, got {type(raw).__name__}")
    return [Message(str(item.get("role") or "system"), _text(item)) for item in raw]


def _text(message: Mapping[str, Any]) -> str:
    """All of a message that a model reads: its text, and what else there is as JSON."""
    content = message.get("content") if "content" in message else message.get("parts")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        part["content"] if isinstance(part, dict) and isinstance(part.get("content"), str) else json.dumps(part)
        for part in parts
    )
