"""How does a gateway stand before an engine that it didn't start? By what the engine's OpenAI server and metrics say.

The server has its models by itself; nothing is loaded or unloaded from here. A model is ready when the server lists it.
When the server can't be reached, was started anew, or counts from the beginning again, its caches are empty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from airflow_fate.gateway.engines import openai_api
from airflow_fate.gateway.engines.base import Engine, EngineDied, LoadFailed, Route

PERIOD_S = 1.0
START_TIMEOUT_S = 1800.0
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
_COUNTERS = ("prefix_queries", "prefix_hits")
_log = logging.getLogger(__name__)


class ServedEngine(Engine):
    """An OpenAI-compatible server.

    :param url: of the server, without ``/v1``.
    :param models: those that it should have, under the names by which it serves them.
    :param signals: signal -> names of the metrics that tell it; empty for a server of which no metrics are known.
    :param transport: how the server is reached; over the network, if nothing is said.
    """

    def __init__(
        self,
        url: str,
        models: Iterable[str],
        signals: Mapping[str, tuple[str, ...]],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__()
        self.own_models = tuple(models)
        self._client = httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, transport=transport)
        self._names = signals
        self._ready: set[str] = set()
        self._watch: asyncio.Task[None] | None = None

    async def load(self, model: str) -> None:
        """Return when the server lists the model."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while model not in await self._listed():
                    await asyncio.sleep(PERIOD_S)
        except TimeoutError as error:
            raise LoadFailed(f"the server did not list model {model!r} within {START_TIMEOUT_S:.0f} s") from error
        self._ready.add(model)
        if self._watch is None:
            self._watch = asyncio.create_task(self._follow())

    async def unload(self, model: str) -> None:
        self._ready.discard(model)

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

    async def close(self) -> None:
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._client.aclose()

    async def _listed(self) -> frozenset[str]:
        """The models that the server has; none while it can't be reached."""
        try:
            answer = await self._client.get("/v1/models", timeout=LIFE_TIMEOUT_S)
            return frozenset(one["id"] for one in answer.raise_for_status().json()["data"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return frozenset()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            listed = await self._listed()
            if gone := self._ready - listed:
                self._lost(f"it doesn't list {', '.join(sorted(gone))} any more")
            elif self._names:
                await self._read_metrics()

    async def _read_metrics(self) -> None:
        try:
            answer = await self._client.get("/metrics", timeout=LIFE_TIMEOUT_S)
            found = _sums(answer.raise_for_status().text)
        except (httpx.HTTPError, ValueError) as error:
            _log.debug("no metrics: %s", error)
            found = {}
        for signal, names in self._names.items():
            value = next((found[name] for name in names if name in found), None)
            self._note(signal, missing=value is None)
            before = self.signals.get(signal)
            if value is None:
                self.signals.pop(signal, None)
                continue
            self.signals[signal] = value
            if before is not None and _tells_of_a_restart(signal, before, value):
                self._lost("it was started anew")

    def _note(self, signal: str, missing: bool) -> None:
        if missing and signal not in self.missing:
            _log.warning("the engine does not tell %s; what rests on it is estimated", signal)
        (self.missing.add if missing else self.missing.discard)(signal)

    def _lost(self, why: str) -> None:
        self.signals.clear()
        for model in sorted(self._ready):
            _log.warning("the engine of %s is another one now: %s", model, why)
            self._ready.discard(model)
            self.on_death(model)


def _tells_of_a_restart(signal: str, before: float, value: float) -> bool:
    return value != before if signal == STARTED else signal in _COUNTERS and value < before


def _sums(text: str) -> dict[str, float]:
    """Metric -> its value, summed over its labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found
