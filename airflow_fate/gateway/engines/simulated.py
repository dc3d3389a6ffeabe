"""What if the engine had other speeds? An engine that computes nothing, but takes its time and keeps a prefix cache.

It works in steps, by the law of docs/physics.md ("Prefill", "Decode", "Steps"): prompts are computed one after another,
and who decodes is slowed down by the others. Its cache works on the real text of the prompts, so that whoever tests
placement against it sees the effect of text that is really shared, not of keys that only say so. Each ``cache_salt``
has a part of it to itself. ``FakeEngine`` is the same without delays, and fails on demand.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from math import inf
from typing import Any

from airflow_fate.gateway.engines.base import Engine, EngineDied, LoadFailed, RequestRefused, Route
from airflow_fate.physics import terms

CHARS_PER_TOKEN = 4
DEFAULT_COMPLETION_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Speeds:
    """How fast a model is on the simulated device.

    :param context_slowdown: for each 1,000 tokens of context in the batch.
    """

    prefill_tps: float = inf
    decode_tps: float = inf
    disk_load_s: float = 0.0
    host_load_s: float = 0.0
    decode_slowdown: float = 0.0
    context_slowdown: float = 0.0


@dataclass(eq=False)
class _Sequence:
    """A sequence that decodes; ``context_tokens`` grows with each token."""

    speeds: Speeds
    context_tokens: int


class _Batch:
    """What is in the steps of the engine.

    :param batch_tokens: of a step; 0 where prompts are computed beside it.
    """

    def __init__(self, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self._chunk_s = 0.0
        self.prefill_slot = asyncio.Lock()
        self.decoding: set[_Sequence] = set()

    def step_s(self, speeds: Speeds) -> float:
        """Seconds of the next step as a model has them, the chunk of a prompt in it included."""
        return self._decode_s(speeds) + self._chunk_s

    def chunk(self, speeds: Speeds, tokens: float) -> tuple[float, float]:
        """(tokens of a prompt in the next step, its seconds); all tokens where prompts take no step."""
        if not self._batch_tokens:
            return tokens, tokens / speeds.prefill_tps
        chunk = terms.chunk_tokens(self._batch_tokens, len(self.decoding), tokens)
        self._chunk_s = chunk / speeds.prefill_tps
        return chunk, self._chunk_s + (self._decode_s(speeds) if self.decoding else 0.0)

    def prefilled(self) -> None:
        self._chunk_s = 0.0

    def _decode_s(self, speeds: Speeds) -> float:
        slowdown = max((sequence.speeds.decode_slowdown for sequence in self.decoding), default=0.0)
        per_token = max((sequence.speeds.context_slowdown for sequence in self.decoding), default=0.0) / 1000
        context = sum(sequence.context_tokens for sequence in self.decoding)
        return terms.step(slowdown, max(1, len(self.decoding)), per_token, context) / speeds.decode_tps


class SimulatedEngine(Engine):
    """An engine that sleeps instead of computing.

    :param kv_tokens: prompt tokens that its cache holds, least recently used prompts out.
    :param batch_tokens: that a step computes at most, prompts and sequences together; 0 where prompts take no step.
    :param in_host_memory: whether a model's weights lie in the node's host memory, from where they load faster.
    :param sleep: how it spends time; tests pass one that returns at once.
    :param clock: seconds that ``sleep`` lets pass.
    """

    takes_salt = True

    def __init__(
        self,
        speeds: Mapping[str, Speeds],
        kv_tokens: int = 8192,
        in_host_memory: Callable[[str], bool] = lambda model: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        batch_tokens: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._speeds = speeds
        self._kv_tokens = kv_tokens
        self._in_host_memory = in_host_memory
        self._sleep = sleep
        self._clock = clock
        self._loaded: set[str] = set()
        self._batch = _Batch(batch_tokens)
        self._cache: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    async def load(self, model: str) -> None:
        speeds = self._speeds[model]
        await self._sleep(speeds.host_load_s if self._in_host_memory(model) else speeds.disk_load_s)
        self._loaded.add(model)

    async def unload(self, model: str) -> None:
        self._loaded.discard(model)
        for entry in [entry for entry in self._cache if entry[0] == model]:
            del self._cache[entry]

    async def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        if model not in self._loaded:
            raise EngineDied(f"the engine of model {model!r} is gone")
        speeds, prompt = self._speeds[model], _prompt_text(route, body)
        completion_tokens, salt = _completion_tokens(body), str(body.get("cache_salt") or "")
        prompt_tokens = max(1, len(prompt) // CHARS_PER_TOKEN)
        async with self._batch.prefill_slot:
            cached_tokens = min(self._cached_tokens(model, salt, prompt), prompt_tokens - 1)
            prefill_s = await self._prefill(speeds, prompt_tokens - cached_tokens)
            self._remember(model, salt, prompt)
        decode_s, until_s = 0.0, self._clock()
        words = _words(prompt, completion_tokens)
        sequence = _Sequence(speeds, prompt_tokens)
        self._batch.decoding.add(sequence)
        try:
            for word in words:
                step_s = self._batch.step_s(speeds)
                decode_s += step_s
                until_s += step_s
                await self._sleep_until(until_s)
                sequence.context_tokens += 1
                if model not in self._loaded:
                    raise EngineDied(f"the engine of model {model!r} died in mid-answer")
                if body.get("stream"):
                    yield _document(route, model, word, chunk=True)
        finally:
            self._batch.decoding.discard(sequence)
        self._remember(model, salt, prompt + "".join(words))
        counts = {
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": len(words),
                "total_tokens": prompt_tokens + len(words),
                "prompt_tokens_details": {"cached_tokens": cached_tokens},
            },
            "timings": {
                "cache_n": cached_tokens,
                "prompt_ms": prefill_s * 1000,
                "predicted_ms": decode_s * 1000,
            },
        }
        if body.get("stream"):
            yield _document(route, model, "", chunk=True, finish_reason="length")
            yield _document(route, model, "", chunk=True) | {"choices": []} | counts
        else:
            yield _document(route, model, "".join(words), chunk=False, finish_reason="length") | counts

    async def _prefill(self, speeds: Speeds, tokens: float) -> float:
        """Compute so much of a prompt; seconds that it took."""
        seconds, began_s = 0.0, self._clock()
        try:
            while tokens > 0:
                chunk, step_s = self._batch.chunk(speeds, tokens)
                seconds += step_s
                tokens -= chunk
                await self._sleep_until(began_s + seconds)
        finally:
            self._batch.prefilled()
        return seconds

    async def _sleep_until(self, at_s: float) -> None:
        """Steps end when they should: each sleep lasts a little too long, and a thousand of them much too long."""
        await self._sleep(max(0.0, at_s - self._clock()))

    async def close(self) -> None:
        self._loaded.clear()

    def _cached_tokens(self, model: str, salt: str, prompt: str) -> int:
        shared = (_shared_chars(prompt, text) for *owner, text in self._cache if owner == [model, salt])
        return max(shared, default=0) // CHARS_PER_TOKEN

    def _remember(self, model: str, salt: str, text: str) -> None:
        for entry in [cached for cached in self._cache if cached[:2] == (model, salt) and text.startswith(cached[2])]:
            del self._cache[entry]
        self._cache[model, salt, text] = None
        while (
            sum(len(cached[2]) // CHARS_PER_TOKEN for cached in self._cache) > self._kv_tokens and len(self._cache) > 1
        ):
            self._cache.popitem(last=False)


class FakeEngine(SimulatedEngine):
    """For tests: answers at once, notes what it was asked to do, and fails on demand.

    :ivar actions: ("load" | "unload" | "ask", model), in order.
    :ivar refuse_load: the next loads fail.
    :ivar crash_after: die in mid-answer after so many chunks of a stream.
    :ivar gate: answers wait for it before their last chunk; set unless a test clears it.
    """

    def __init__(self, *models: str, kv_tokens: int = 8192) -> None:
        super().__init__({model: Speeds() for model in models}, kv_tokens)
        self.actions: list[tuple[str, str]] = []
        self.refuse_load = False
        self.crash_after: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._trouble = ""

    @property
    def trouble(self) -> str:
        return self._trouble

    def is_out(self, trouble: str) -> None:
        """Answer nothing from now on, for this reason; answer again, if it is empty."""
        self._trouble = trouble
        self.on_trouble()

    async def load(self, model: str) -> None:
        self.actions.append(("load", model))
        if self.refuse_load:
            raise LoadFailed(f"model {model!r} was told not to load")
        await super().load(model)

    async def unload(self, model: str) -> None:
        self.actions.append(("unload", model))
        await super().unload(model)

    async def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        self.actions.append(("ask", model))
        chunks = 0
        async with aclosing(super().ask(model, route, body)) as documents:
            async for document in documents:
                if self.crash_after is not None and chunks >= self.crash_after:
                    await self.crash(model)
                    raise EngineDied(f"the engine of model {model!r} was told to die")
                if "usage" in document:
                    await self.gate.wait()
                yield document
                chunks += 1

    async def crash(self, model: str) -> None:
        """Die as a killed process does."""
        await super().unload(model)
        self.on_death(model)


def _shared_chars(text: str, other: str) -> int:
    """Length of their common prefix. Whole pieces are compared: one by one, long prompts would hold up the gateway."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _prompt_text(route: Route, body: dict[str, Any]) -> str:
    try:
        if route == "completions":
            return str(body["prompt"])
        return "\n".join(f"{item['role']}: {_text(item.get('content'))}" for item in body["messages"])
    except (KeyError, TypeError) as error:
        raise RequestRefused(400, f"the request lacks {error}") from error


def _completion_tokens(body: dict[str, Any]) -> int:
    try:
        return int(body.get("max_tokens") or DEFAULT_COMPLETION_TOKENS)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestRefused(400, f"max_tokens must be a number: {error}") from error


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def _words(prompt: str, count: int) -> list[str]:
    """An answer that only depends on the prompt, one token of four characters a word."""
    digits = hashlib.shake_128(prompt.encode()).hexdigest(2 * count)
    return [f"{digits[4 * i : 4 * i + 3]} " for i in range(count)]


def _document(route: Route, model: str, text: str, *, chunk: bool, finish_reason: str | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason}
    if route == "completions":
        kind, choice["text"] = "text_completion", text
    elif chunk:
        kind, choice["delta"] = "chat.completion.chunk", {"role": "assistant", "content": text}
    else:
        kind, choice["message"] = "chat.completion", {"role": "assistant", "content": text}
    return {"id": "simulated", "object": kind, "created": int(time.time()), "model": model, "choices": [choice]}
