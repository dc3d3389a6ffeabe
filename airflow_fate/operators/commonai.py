"""All that touches Airflow's common-ai provider and pydantic-ai, which release often.

A contract test (``tests/unit/operators/test_commonai.py``) says what is relied on here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

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
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.openai import OpenAIProvider

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
    "task_decorator_factory",
    "validate_prompt",
]

REQUEST_TIMEOUT_S = 3600.0


def engine_model(model: str, url: str, token: str) -> Model:
    """A model served behind a gateway.

    The client doesn't retry: a device that failed is left to the planner, which sends the task's next try elsewhere.

    :param url: base URL of the gateway, without ``/v1``.
    """
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=REQUEST_TIMEOUT_S)
    return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))


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
