"""How does a gateway stand before an OpenAI server? By what the server and its metrics say.

The server has its base models by itself; only LoRA adapters are loaded and unloaded from here. A model is ready when
the server lists it and is awake. When the server can't be reached, was started anew, or counts from the beginning
again, its caches are empty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Set
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from airflow_fate.gateway.blocks import Blocks, Prompt
from airflow_fate.gateway.engines import kvevents, openai_api
from airflow_fate.gateway.engines.base import Engine, EngineDied, LoadFailed, Route

PERIOD_S = 1.0
START_TIMEOUT_S = 1800.0
ADAPTER_TIMEOUT_S = 300.0
SLEEP_TIMEOUT_S = 120.0
LIFE_TIMEOUT_S = 20.0
"""A busy server is slow to say that it lives."""
CACHED_TOKENS = "cached_tokens"
STARTED = "started"
VLLM_SIGNALS: Mapping[str, tuple[str, ...]] = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "prefix_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "prefix_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    STARTED: ("process_start_time_seconds",),
}
"""Signal -> its names in vLLM's metrics, new ones first."""
AWAKE = "vllm:engine_sleep_state{awake}"
"""0 in a server that was put to sleep."""
_STATE = "sleep_state"
_TOKENIZED = ("messages", "prompt", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")
"""What of a request's body makes its prompt."""
_COUNTERS = ("prefix_queries", "prefix_hits")
_log = logging.getLogger(__name__)


class ServedEngine(Engine):
    """An OpenAI-compatible server.

    :param url: of the server, without ``/v1``.
    :param models: those that it should have, under the names by which it serves them.
    :param signals: signal -> names of the metrics that tell it; empty for a server of which no metrics are known.
    :param adapters: LoRA adapter -> its folder or name as the server knows it. vLLM loads them at runtime where it was
        started with ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``.
    :param events_url: where it publishes the events of its prefix cache, such as ``tcp://10.0.0.7:5557``; empty if not.
    :param api_key: what the server wants to be shown.
    :param transport: how the server is reached; over the network, if nothing is said.
    """

    def __init__(
        self,
        url: str,
        models: Iterable[str],
        signals: Mapping[str, tuple[str, ...]],
        *,
        adapters: Mapping[str, str] = MappingProxyType({}),
        events_url: str = "",
        api_key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.own_models = tuple(models)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=None, trust_env=False, transport=transport
        )
        self._names = signals
        self.takes_salt = signals is VLLM_SIGNALS
        self._adapters = adapters
        self._signals: dict[str, float] = {}
        self._missing: set[str] = set()
        self._ready: set[str] = set()
        self._blocks = Blocks()
        self._events_url = events_url
        self._watches: list[asyncio.Task[None]] = []

    @property
    def signals(self) -> Mapping[str, float]:
        return self._signals

    @property
    def missing(self) -> Set[str]:
        return self._missing

    async def load(self, model: str) -> None:
        """Return when the model is there; an adapter is loaded when its server is."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while model not in (there := await self._there()):
                    if there and model in self._adapters:
                        await self._load_adapter(model)
                    else:
                        await asyncio.sleep(PERIOD_S)
        except TimeoutError as error:
            raise LoadFailed(f"the server did not list model {model!r} within {START_TIMEOUT_S:.0f} s") from error
        self._ready.add(model)
        if not self._watches:
            self._watches.append(asyncio.create_task(self._follow()))
            if self._events_url:
                on_gone = lambda: self.on_cache_change()  # noqa: E731
                self._watches.append(asyncio.create_task(kvevents.follow(self._events_url, self._blocks, on_gone)))

    async def unload(self, model: str) -> None:
        self._ready.discard(model)
        if model in self._adapters:
            try:
                body = {"lora_name": model}
                answer = await self._client.post("/v1/unload_lora_adapter", json=body, timeout=ADAPTER_TIMEOUT_S)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                _log.warning("adapter %s may still take memory of the server: %s", model, error)

    async def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        try:
            async with aclosing(openai_api.ask(self._client, model, route, body)) as documents:
                async for document in documents:
                    if usage := document.get("usage"):
                        self._note(CACHED_TOKENS, missing=not usage.get("prompt_tokens_details"))
                    yield document
        except EngineDied:
            self._lost("it broke off an answer")
            raise

    async def prompt(self, model: str, body: dict[str, Any]) -> Prompt:
        if not self._blocks.size:
            return Prompt()
        question = {"model": model} | {name: body[name] for name in _TOKENIZED if name in body}
        try:
            answer = await self._client.post("/tokenize", json=question, timeout=LIFE_TIMEOUT_S)
            scope = (model if model in self._adapters else "", body.get("cache_salt", ""))
            return self._blocks.split(answer.raise_for_status().json()["tokens"], tuple(filter(None, scope)))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            _log.debug("a prompt's blocks are unknown: %s", error)
            return Prompt()

    def holds(self, model: str, prompt: Prompt) -> bool:
        return self._blocks.hold(prompt)

    async def sleep(self) -> None:
        """Have the weights moved to host memory and the caches dropped; needs vLLM's development mode.

        :raises httpx.HTTPError: when it can't.
        """
        self._ready.clear()
        answer = await self._client.post("/sleep", params={"level": 1}, timeout=SLEEP_TIMEOUT_S)
        answer.raise_for_status()

    async def wake(self) -> None:
        """:raises httpx.HTTPError: when it can't."""
        answer = await self._client.post("/wake_up", timeout=SLEEP_TIMEOUT_S)
        answer.raise_for_status()

    async def close(self) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._client.aclose()

    async def _there(self) -> frozenset[str]:
        """The models that the server has; none while it can't be reached or sleeps."""
        try:
            answer = await self._client.get("/v1/models", timeout=LIFE_TIMEOUT_S)
            listed = frozenset(one["id"] for one in answer.raise_for_status().json()["data"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return frozenset()
        return listed if not self._names or await self._is_awake() else frozenset()

    async def _load_adapter(self, model: str) -> None:
        body = {"lora_name": model, "lora_path": self._adapters[model]}
        try:
            answer = await self._client.post("/v1/load_lora_adapter", json=body, timeout=ADAPTER_TIMEOUT_S)
        except httpx.TransportError as error:
            raise LoadFailed(f"adapter {model!r}: the server could not be asked: {error!r}") from error
        if answer.status_code != 200:
            raise LoadFailed(f"adapter {model!r}: {openai_api.refusal(answer.status_code, answer.content)}")

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            if gone := self._ready - await self._there():
                self._lost(f"it doesn't serve {', '.join(sorted(gone))} any more")

    async def _is_awake(self) -> bool:
        """Read the metrics; what they don't say is noted as missing."""
        try:
            answer = await self._client.get("/metrics", timeout=LIFE_TIMEOUT_S)
            found = _sums(answer.raise_for_status().text)
        except (httpx.HTTPError, ValueError) as error:
            _log.debug("no metrics: %s", error)
            found = {}
        for signal, names in self._names.items():
            value = next((found[name] for name in names if name in found), None)
            self._note(signal, missing=value is None)
            before = self._signals.get(signal)
            if value is None:
                self._signals.pop(signal, None)
                continue
            self._signals[signal] = value
            if before is not None and _tells_of_a_restart(signal, before, value):
                self._lost("it was started anew")
        return found.get(AWAKE) != 0.0

    def _note(self, signal: str, missing: bool) -> None:
        if missing and signal not in self._missing:
            _log.warning("the engine does not tell %s; what rests on it is estimated", signal)
        (self._missing.add if missing else self._missing.discard)(signal)

    def _lost(self, why: str) -> None:
        self._signals.clear()
        self._blocks.clear()
        for model in sorted(self._ready):
            _log.warning("the engine of %s is another one now: %s", model, why)
            self._ready.discard(model)
            self.on_death(model)


def _tells_of_a_restart(signal: str, before: float, value: float) -> bool:
    return value != before if signal == STARTED else signal in _COUNTERS and value < before


def _sums(text: str) -> dict[str, float]:
    """Metric -> its value, summed over its labels; of a sleep state, each."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = f"{sample.name}{{{sample.labels[_STATE]}}}" if _STATE in sample.labels else sample.name
            found[name] = found.get(name, 0.0) + sample.value
    return found
