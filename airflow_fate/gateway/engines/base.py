"""What drives an engine? The one seam between a gateway and whatever computes the answers.

An engine speaks OpenAI's documents: a streamed answer is several chunks, any other is one. It counts for itself what
it took from its cache and how long it worked; the gateway passes on those counts and guesses none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

from airflow_fate.gateway.cache.blocks import Prompt

Route = Literal["chat/completions", "completions"]
MOST_TOKENS = 10**9
LONGEST_S = 7 * 86400.0
"""No count and no time that an engine tells is larger."""


class EngineError(Exception):
    """The engine could not do what it was asked to."""


class LoadFailed(EngineError):
    """The model could not be loaded."""


class EngineDied(EngineError):
    """The engine's process is gone, and with it its models' caches."""


class KeyRefused(EngineError):
    """The engine wants to be shown another key than the gateway's."""


class RequestRefused(EngineError):
    """The engine refused this request, for a reason that its sender should read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Usage:
    """What an engine counted for one request; None where it doesn't tell."""

    prompt_tokens: int = 0
    cached_tokens: int | None = None
    completion_tokens: int = 0
    prefill_s: float | None = None
    decode_s: float | None = None


class Engine(ABC):
    """Loads models and answers requests. The gateway calls ``load`` and ``unload`` for one model at a time."""

    on_death: Callable[[str], None] = staticmethod(lambda model: None)
    """Called with the model when its engine dies without having been asked to."""
    on_cache_change: Callable[[], None] = staticmethod(lambda: None)
    """Called when the prefix cache holds less than before."""
    on_forgotten: Callable[[str, str], None] = staticmethod(lambda model, salt: None)
    """Called with a model and a salt when nothing is left in the cache of the prompts that the salt keeps apart."""
    on_trouble: Callable[[], None] = staticmethod(lambda: None)
    """Called when ``trouble`` has changed."""
    takes_salt: bool = False
    """Whether a request's ``cache_salt`` keeps its prompt apart from others' in the prefix cache."""
    own_models: tuple[str, ...] = ()
    """Models that the engine has by itself, as soon as it can be reached."""

    @property
    def signals(self) -> Mapping[str, float]:
        """What else the engine tells of itself."""
        return {}

    @property
    def trouble(self) -> str:
        """Why it is known to answer nothing at present; empty while it may answer."""
        return ""

    @property
    def missing(self) -> Set[str]:
        """What it should tell and doesn't."""
        return frozenset()

    @abstractmethod
    async def load(self, model: str) -> None:
        """Return when the model serves.

        :raises LoadFailed: when it can't.
        """

    @abstractmethod
    async def unload(self, model: str) -> None:
        """Return when the model's memory is free; never fails."""

    @abstractmethod
    def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Answer in one document, or in chunks when ``body["stream"]`` is true. Closing the generator stops the work.

        :raises EngineDied: also in mid-answer.
        :raises RequestRefused: when the request itself is at fault.
        """

    async def prompt(self, model: str, body: dict[str, Any]) -> Prompt:
        """A request's prompt as blocks of the prefix cache; none where the engine doesn't tell what it caches."""
        return Prompt()

    def holds(self, model: str, prompt: Prompt) -> bool:
        """Whether all blocks of a prompt are in the prefix cache."""
        return False

    @abstractmethod
    async def close(self) -> None:
        """Free everything."""


def read_usage(document: dict[str, Any]) -> Usage | None:
    """What a document says of tokens and times (OpenAI's ``usage``, llama.cpp's ``timings``); None if nothing.

    What is no count or no time is not believed, whatever it is.
    """
    usage, timings = document.get("usage"), document.get("timings")
    if not isinstance(usage, dict) or not usage:
        return None
    details = usage.get("prompt_tokens_details")
    prompt_tokens = _tokens(usage.get("prompt_tokens")) or 0
    cached_tokens = _tokens(details.get("cached_tokens")) if isinstance(details, dict) else None
    times = timings if isinstance(timings, dict) else {}
    prefill_s, decode_s = _seconds(times.get("prompt_ms")), _seconds(times.get("predicted_ms"))
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=None if cached_tokens is None else min(cached_tokens, prompt_tokens),
        completion_tokens=_tokens(usage.get("completion_tokens")) or 0,
        # One without the other would be an answer without its other half.
        prefill_s=None if decode_s is None else prefill_s,
        decode_s=None if prefill_s is None else decode_s,
    )


def _tokens(value: Any) -> int | None:
    number = _number(value, MOST_TOKENS)
    return None if number is None else int(number)


def _seconds(value_ms: Any) -> float | None:
    number = _number(value_ms, LONGEST_S * 1000)
    return None if number is None else number / 1000


def _number(value: Any, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return min(value, most)
