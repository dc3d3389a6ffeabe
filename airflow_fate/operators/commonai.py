"""All that touches Airflow's common-ai provider and pydantic-ai, which release often.

A contract test (``tests/unit/operators/test_commonai.py``) says what is relied on here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.ai.hooks.pydantic_ai import PydanticAIHook
from airflow.providers.common.ai.operators.llm import LLMOperator as CommonLLMOperator
from airflow.providers.common.ai.utils.usage import coerce_usage_limits
from airflow.providers.common.ai.utils.validation import validate_prompt
from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

from airflow_fate.operators.runtime import fresh_token

if TYPE_CHECKING:
    from airflow_fate.messages import Share

__all__ = [
    "SET_DURING_EXECUTION",
    "Agent",
    "CommonLLMOperator",
    "DecoratedOperator",
    "Model",
    "PydanticAIHook",
    "TaskDecorator",
    "coerce_usage_limits",
    "context_merge",
    "determine_kwargs",
    "dump_messages",
    "engine_model",
    "instructions_of",
    "load_messages",
    "reporting",
    "served_model",
    "task_decorator_factory",
    "validate_prompt",
]

REQUEST_TIMEOUT_S = 3600.0
ENGINE_PROFILE = OpenAIModelProfile(
    # vLLM, llama.cpp, Ollama and LM Studio all hold answers to a JSON schema; that a tool must be called,
    # pydantic-ai's usual way to structured output, llama.cpp ignores.
    supports_json_schema_output=True,
    default_structured_output_mode="native",
)


def engine_model(model: str, share: Share) -> Model:
    """A model served behind the gateway of a device of the binding."""

    async def key() -> str:
        return await asyncio.to_thread(fresh_token, share)

    return served_model(model, share.url, key)


def served_model(model: str, url: str, key: str | Callable[[], Awaitable[str]]) -> Model:
    """A model served behind an OpenAI-compatible API.

    The client doesn't retry: a device that failed is left to the planner, which sends the task's next try elsewhere. It
    asks the device directly, whatever proxies the environment names: these would see prompts and tokens.

    :param url: base URL, without ``/v1``.
    """
    http = DefaultAsyncHttpxClient(timeout=REQUEST_TIMEOUT_S, trust_env=False)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http)
    return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client), profile=ENGINE_PROFILE)


def reporting(model: Model, report: Callable[[], Awaitable[None]]) -> Model:
    """The model, with ``report`` awaited after each request, answered or not."""
    return _ReportingModel(model, report)


class _ReportingModel(WrapperModel):
    def __init__(self, wrapped: Model, report: Callable[[], Awaitable[None]]) -> None:
        super().__init__(wrapped)
        self._report = report

    async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
        try:
            return await super().request(*args, **kwargs)
        finally:
            await self._report()


def dump_messages(messages: list[ModelMessage]) -> str:
    """A conversation as JSON text."""
    return ModelMessagesTypeAdapter.dump_json(messages).decode()


def load_messages(text: str) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_json(text)


def instructions_of(messages: list[ModelMessage]) -> str | None:
    """The system prompt under which a conversation was held; pydantic-ai keeps it beside the messages."""
    for message in reversed(messages):
        if isinstance(message, ModelRequest) and message.instructions:
            return message.instructions
    return None
