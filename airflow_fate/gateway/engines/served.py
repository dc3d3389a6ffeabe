"""How does a gateway stand before an OpenAI server? By what the server and its metrics say.

The server has its base models by itself; only LoRA adapters are loaded and unloaded from here. A model is ready when
the server lists it and is healthy and awake. When the server refuses connections, was started anew, or counts from the
beginning again, its caches are empty; when it is only late, it is believed for a while.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Set
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from airflow_fate.gateway.cache.blocks import Blocks, Prompt
from airflow_fate.gateway.engines import kvevents, openai_api
from airflow_fate.gateway.engines.base import (
    Engine,
    EngineDied,
    EngineError,
    KeyRefused,
    LoadFailed,
    RequestRefused,
    Route,
    read_usage,
)
from airflow_fate.gateway.engines.pulse import MISSES, Pulse
from airflow_fate.gateway.http.documents import read_object

PERIOD_S = 1.0
LOAD_TIMEOUT_S = 1800.0
ADAPTER_TIMEOUT_S = 300.0
SLEEP_TIMEOUT_S = 120.0
LIFE_TIMEOUT_S = 60.0
"""A busy vLLM needs 30 to 40 s to say that it lives."""
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
_KEY_SETTINGS = "set engine_key_file or engine_key_env of the device to the key that the engine was started with"
_log = logging.getLogger(__name__)


class _ServerGone(Exception):
    """The server is certainly not one that answers; the message says why."""


class ServedEngine(Engine):
    """An OpenAI-compatible server.

    :param url: of the server, without ``/v1``.
    :param models: those that it should have, under the names by which it serves them.
    :param signals: signal -> names of the metrics that tell it; empty for a server of which no metrics are known.
    :param adapters: LoRA adapter -> its folder or name as the server knows it. vLLM loads them at runtime where it was
        started with ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``.
    :param events_url: where it publishes the events of its prefix cache, such as ``tcp://10.0.0.7:5557``; empty if not.
    :param key: what the server wants to be shown, asked for with every request; empty if nothing.
    :param load_timeout_s: how long a model may take to be there.
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
        key: Callable[[], str] = lambda: "",
        load_timeout_s: float = LOAD_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.own_models = tuple(models)

        def show_key(request: httpx.Request) -> httpx.Request:
            if shown := key():
                request.headers["Authorization"] = f"Bearer {shown}"
            return request

        self._client = httpx.AsyncClient(
            base_url=url, auth=show_key, timeout=None, trust_env=False, transport=transport, limits=openai_api.LIMITS
        )
        self._load_timeout_s = load_timeout_s
        self._names = signals
        self.takes_salt = signals is VLLM_SIGNALS
        self._adapters = adapters
        self._signals: dict[str, float] = {}
        self._tells_of_start: dict[str, float] = {}
        self._missing: set[str] = set()
        self._listed: frozenset[str] = frozenset()
        self._ready: set[str] = set()
        self._pulse = Pulse()
        self._trouble = ""
        self._has_answered = False
        self._is_awake = True
        self._is_key_refused = False
        self._tells_cached = False
        self.running = 0
        """Answers that have not ended."""
        self._blocks = Blocks()
        self._events_url = events_url
        self._watches: list[asyncio.Task[None]] = []
        self._probing = asyncio.Lock()
        self._doubted = asyncio.Event()

    @property
    def signals(self) -> Mapping[str, float]:
        return self._signals

    @property
    def missing(self) -> Set[str]:
        return self._missing

    @property
    def trouble(self) -> str:
        return self._trouble

    def lists(self, model: str) -> bool:
        """Whether the server had the model, and was awake and well, when it was last asked."""
        return model in self._listed

    async def load(self, model: str) -> None:
        """Return when the model is there; an adapter is loaded when its server is.

        :raises EngineDied: when the server is known to answer nothing.
        """
        if not self._watches:
            self._watches.append(asyncio.create_task(self._follow()))
            if self._events_url:
                on_gone = lambda: self.on_cache_change()  # noqa: E731
                self._watches.append(asyncio.create_task(kvevents.follow(self._events_url, self._blocks, on_gone)))
        try:
            async with asyncio.timeout(self._load_timeout_s):
                while not await self._is_there(model):
                    if self._listed and model in self._adapters:
                        await self._load_adapter(model)
                    else:
                        await asyncio.sleep(PERIOD_S)
        except TimeoutError as error:
            within = f"within {self._load_timeout_s:g} s, the device's load_timeout_s"
            raise LoadFailed(f"the server did not list model {model!r} {within}") from error
        self._ready.add(model)

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
        if self._trouble:
            raise EngineDied(self._trouble)
        self.running += 1
        try:
            async with aclosing(openai_api.ask(self._client, model, route, body)) as documents:
                async for document in documents:
                    self._pulse.flows()
                    if usage := read_usage(document):
                        # One that has told it leaves it out where it is zero.
                        self._tells_cached |= usage.cached_tokens is not None
                        self._note(CACHED_TOKENS, missing=not self._tells_cached)
                    yield document
            self._is_key_refused = False
        except EngineError as error:
            self._judge(error)
            raise
        finally:
            self.running -= 1

    async def prompt(self, model: str, body: dict[str, Any]) -> Prompt:
        if not self._blocks.size:
            return Prompt()
        question = {"model": model} | {name: body[name] for name in _TOKENIZED if name in body}
        try:
            answer = await self._client.post("/tokenize", json=question, timeout=LIFE_TIMEOUT_S)
            tokens = read_object(answer.raise_for_status().content)["tokens"]
            if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
                raise ValueError("tokens that are no numbers")
            scope = (model if model in self._adapters else "", str(body.get("cache_salt") or ""))
            return self._blocks.split(tokens, tuple(filter(None, scope)))
        except (httpx.HTTPError, ValueError, KeyError) as error:
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

    async def _is_there(self, model: str) -> bool:
        await self._probe()
        if self._trouble:
            raise EngineDied(self._trouble)
        return self.lists(model)

    def _judge(self, error: EngineError) -> None:
        """What a failed answer says of the engine."""
        match error:
            case RequestRefused():
                return
            case KeyRefused():
                if not self._is_key_refused:
                    _log.warning("%s; %s", error, _KEY_SETTINGS)
                self._is_key_refused = True
            case EngineDied() if STARTED not in self._signals:
                self._lost("it broke off an answer")
            case _:
                # A connection that broke is not yet another engine, where the engine tells since when it lives.
                self._doubted.set()

    async def _load_adapter(self, model: str) -> None:
        body = {"lora_name": model, "lora_path": self._adapters[model]}
        try:
            answer = await self._client.post("/v1/load_lora_adapter", json=body, timeout=ADAPTER_TIMEOUT_S)
        except httpx.RequestError as error:
            raise LoadFailed(f"adapter {model!r}: the server could not be asked: {error!r}") from error
        if answer.status_code != 200:
            raise LoadFailed(f"adapter {model!r}: {openai_api.failure(answer.status_code, answer.content)}")
        if not await self._is_there(model):
            raise LoadFailed(f"adapter {model!r}: the server took it and does not list it")

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PERIOD_S):
                    await self._doubted.wait()
            except TimeoutError:
                pass
            self._doubted.clear()
            await self._probe()

    async def _probe(self) -> None:
        """Ask the server how it is, and conclude."""
        # One at a time: two would count the same silence twice.
        async with self._probing:
            try:
                listed = await self._look()
            except (_ServerGone, KeyRefused) as error:
                self._gone(str(error))
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                if self._pulse.missed() and self._has_answered:
                    self._gone(f"{MISSES} times in a row it gave no sign of life ({type(error).__name__})")
            else:
                if listed is None:
                    return
                self._pulse.answered()
                self._has_answered = True
                self._listed = listed
                self._tell_trouble("")
                if gone := self._ready - listed:
                    self._lost(f"it doesn't serve {', '.join(sorted(gone))} any more")

    async def _look(self) -> frozenset[str] | None:
        """The models that the server has, none while it sleeps; None while it starts.

        :raises (_ServerGone, KeyRefused): when it can't answer anything.
        :raises (httpx.HTTPError, ValueError, KeyError, TypeError): when that can't be known.
        """
        try:
            answer = await self._client.get("/v1/models", timeout=LIFE_TIMEOUT_S)
        except httpx.ConnectError as error:
            if any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error)):
                if not self._has_answered:
                    return None
                raise _ServerGone("it refuses connections") from error
            raise
        if answer.status_code in openai_api.KEY:
            raise KeyRefused(f"it refuses the gateway's key with {answer.status_code}; {_KEY_SETTINGS}")
        listed = frozenset(str(model["id"]) for model in read_object(answer.raise_for_status().content)["data"])
        if not self._names:
            return listed
        health = await self._client.get("/health", timeout=LIFE_TIMEOUT_S)
        if health.status_code == 503:
            raise _ServerGone("its /health says that its engine core is dead")
        if health.is_server_error:
            health.raise_for_status()
        await self._read_metrics()
        return listed if self._is_awake else frozenset()

    async def _read_metrics(self) -> None:
        """What they don't say is noted as missing."""
        try:
            answer = await self._client.get("/metrics", timeout=LIFE_TIMEOUT_S)
        except httpx.TransportError as error:
            _log.debug("metrics are late: %r", error)
            return
        sums = _sums(answer.text) if answer.status_code == 200 else {}
        values = {
            signal: next((sums[name] for name in names if name in sums), None) for signal, names in self._names.items()
        }
        signals = {signal: value for signal, value in values.items() if value is not None}
        if any(_tells_of_a_restart(signal, before, signals) for signal, before in self._tells_of_start.items()):
            self._lost("it was started anew")
        for signal, value in values.items():
            self._note(signal, missing=value is None)
        self._signals = signals
        # What is not told for once is no other engine.
        self._tells_of_start |= {signal: signals[signal] for signal in (STARTED, *_COUNTERS) if signal in signals}
        self._is_awake = sums.get(AWAKE) != 0.0

    def _note(self, signal: str, missing: bool) -> None:
        if missing and signal not in self._missing:
            _log.warning("the engine does not tell %s; what rests on it is estimated", signal)
        (self._missing.add if missing else self._missing.discard)(signal)

    def _gone(self, why: str) -> None:
        """The server answers nothing until it answers a probe."""
        self._listed = frozenset()
        self._tell_trouble(f"the engine is out: {why}")
        self._lost(why)

    def _tell_trouble(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        if trouble:
            _log.warning("%s", trouble)
        else:
            _log.info("the engine answers again")
        self._trouble = trouble
        self.on_trouble()

    def _lost(self, why: str) -> None:
        self._signals = {}
        self._tells_of_start.clear()
        self._blocks.clear()
        for model in sorted(self._ready):
            _log.warning("the engine of %s is another one now: %s", model, why)
            self._ready.discard(model)
            self.on_death(model)


def _tells_of_a_restart(signal: str, before: float, signals: Mapping[str, float]) -> bool:
    value = signals.get(signal, before)
    return value != before if signal == STARTED else value < before


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that it came from."""
    yield error
    for inner in (error.__cause__, error.__context__, *(error.exceptions if isinstance(error, ExceptionGroup) else ())):
        if inner is not None:
            yield from _causes(inner)


def _sums(text: str) -> dict[str, float]:
    """Metric -> its value, summed over its labels; of a sleep state, each. Nothing, if it isn't Prometheus' text."""
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = f"{sample.name}{{{sample.labels[_STATE]}}}" if _STATE in sample.labels else sample.name
                sums[name] = sums.get(name, 0.0) + sample.value
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        _log.debug("no metrics: %r", error)
        return {}
    return {name: value for name, value in sums.items() if math.isfinite(value)}
