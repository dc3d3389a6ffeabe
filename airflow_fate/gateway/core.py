"""What does a gateway know, and what may be asked of it? Everything beside the engine, without HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from airflow_fate.gateway.artifacts import Artifacts
from airflow_fate.gateway.cache.prefixes import Prefixes
from airflow_fate.gateway.cache.promises import Promises
from airflow_fate.gateway.engines.base import Engine, Route, Usage, read_usage
from airflow_fate.gateway.http import requests
from airflow_fate.gateway.http.errors import Refusal, fenced
from airflow_fate.gateway.http.intake import Intake
from airflow_fate.gateway.report.company import Beside, Company
from airflow_fate.gateway.report.facts import FactsBook
from airflow_fate.gateway.serving.fences import Fences
from airflow_fate.gateway.serving.host_cache import HostCache
from airflow_fate.gateway.serving.queue import SequenceSlot, Serving
from airflow_fate.gateway.serving.residency import ModelState, Residency
from airflow_fate.gateway.settings import LimitSettings
from airflow_fate.messages import Claims, DeviceReport, ModelReport

KEEP_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceTraits:
    """What is fixed about the device.

    :param weights_bytes: model -> its weights on this device.
    :param batch_tokens: tokens of a step of the engine; 0 where that is not known.
    :param context_tokens: longest prompt and answer together; 0 where the engine itself looks after that.
    """

    id: str
    gpu: str
    engine: str
    memory_bytes: float
    kv_tokens: int
    max_seqs: int
    weights_bytes: Mapping[str, float]
    context_tokens: int = 0
    batch_tokens: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """A request in flight; ``aborted`` says why it was ended from here."""

    claims: Claims
    work: asyncio.Task[None]
    aborted: Refusal | None = None


@dataclass(slots=True)
class _Totals:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    expected_tokens: int = 0


@dataclass(eq=False)
class Gateway:
    """One device's gateway.

    :param clock: Unix seconds.
    :param on_change: called when something changed that should be published soon.
    """

    traits: DeviceTraits
    engine: Engine
    artifacts: Artifacts
    host_cache: HostCache
    limits: LimitSettings = field(default_factory=LimitSettings)
    fences: Fences = field(default_factory=Fences)
    clock: Callable[[], float] = time.time
    on_change: Callable[[], None] = lambda: None
    draining: bool = False
    calls: set[Call] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.started_s = self.clock()
        pinned = frozenset(self.engine.own_models)
        self.residency = Residency(self.traits.memory_bytes, self.traits.weights_bytes, pinned)
        self.prefixes = Prefixes(self.traits.kv_tokens)
        self.promises = Promises()
        self.intake = Intake(self.limits)
        self.facts = FactsBook(self.traits.id)
        self.company = Company()
        self.totals = _Totals()
        self._salts: set[str] = set()
        self._came = asyncio.Event()
        self.engine.on_cache_change = lambda: self.on_change()
        self.engine.on_forgotten = self._forgotten
        self.serving = Serving(
            self.engine,
            self.residency,
            self.traits.max_seqs,
            self.limits,
            clock=self.clock,
            on_change=lambda: self.on_change(),
            on_loaded=self.host_cache.loaded,
            on_gone=self.prefixes.forget,
        )

    def admit(self, claims: Claims) -> None:
        """Learn from a token, abort what it shows to be over, and check that its own reservation isn't.

        :raises Refusal: when it is.
        """
        self._came.set()
        self.fences.learn(claims)
        self._abort_fenced()
        if reason := self.fences.refusal(claims):
            raise fenced(reason)

    def checked(self, claims: Claims, route: Route, body: dict[str, Any]) -> dict[str, Any]:
        """An admitted reservation's request, as it may be asked.

        :raises Refusal: when it asks for what it can't have.
        """
        body = requests.checked(route, body, self._sequences(claims), self.traits.context_tokens)
        model = body.get("model") or claims.model
        if model != claims.model:
            raise Refusal(
                403, "fate_forbidden", f"the token is for model {claims.model!r}, the request names {model!r}"
            )
        try:
            self.check_model(model)
        except Refusal as refusal:
            self.facts.fault(claims.jti, refusal.kind)
            raise
        return body

    def check_model(self, model: str) -> None:
        """:raises Refusal: when the device can never serve the model."""
        if not self.residency.knows(model):
            known = ", ".join(sorted(self.traits.weights_bytes)) or "none"
            raise Refusal(404, "model_not_found", f"model {model!r} is unknown here; known models: {known}")
        if not self.residency.fits(model):
            raise Refusal(
                400,
                "fate_too_large",
                f"model {model!r} needs {self.traits.weights_bytes[model] / 1e9:.3g} GB, "
                f"device {self.traits.id} has {self.residency.memory_bytes_for(model) / 1e9:.3g} GB",
            )

    def drain(self, draining: bool = True) -> None:
        """Say that new tasks should go elsewhere, or that they may come again. Those bound to it are served."""
        self.draining = draining
        self.on_change()

    async def drained(self, quiet_s: float = 0.0) -> None:
        """Drain, and wait until nothing has been in flight for so long: a bound task may be on its way."""
        self.drain()
        while True:
            while self.calls:
                await asyncio.wait({call.work for call in self.calls})
                # Who waited for the work takes its call away next.
                await asyncio.sleep(0)
            self._came.clear()
            try:
                async with asyncio.timeout(quiet_s):
                    await self._came.wait()
            except TimeoutError:
                return

    async def keep_own_models(self) -> None:
        """For ever: what the engine has by itself is ready without being asked for, also after the engine was away."""
        while self.engine.own_models:
            if not self.engine.trouble:
                for model in self.engine.own_models:
                    self.serving.prefetch(model, ())
            await asyncio.sleep(KEEP_S)

    def end(self, reservation: str, why: str = "") -> None:
        """Refuse a reservation from now on, and abort what it has in flight."""
        self.fences.end(reservation, why)
        self._abort_fenced()

    async def ask(self, claims: Claims, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Answer a checked request, as ``Engine.ask`` does, and note what it was."""
        arrived_s = time.monotonic()
        body = body | {"model": claims.model}
        if claims.salt and self.engine.takes_salt:
            body = body | {"cache_salt": claims.salt}
        self._warn_of_sharing(claims.salt)
        sequences = self._sequences(claims)
        async with self.serving.sequence_slot(claims.model, claims.evict, claims.jti, sequences) as slot:
            self.on_change()
            promised_tokens = self.prefixes.found_tokens(claims.chain)
            self.totals.expected_tokens += int(promised_tokens * self.promises.share(claims.model))
            began_s = time.monotonic()
            first_byte_s = 0.0
            usage = Usage()
            presence = self.company.enter(began_s, requests.guessed_tokens(route, body), promised_tokens)
            try:
                async with aclosing(self.engine.ask(claims.model, route, body)) as documents:
                    async for document in documents:
                        if not first_byte_s and body.get("stream"):
                            self.company.prefilled(presence, time.monotonic())
                        first_byte_s = first_byte_s or time.monotonic() - arrived_s
                        usage = read_usage(document) or usage
                        yield document
                beside = self.company.leave(presence, time.monotonic(), usage)
            finally:
                self.company.forget(presence, time.monotonic())
            if not body.get("stream") and usage.prefill_s is not None:
                first_byte_s = began_s - arrived_s + usage.prefill_s
            self.promises.note(claims.model, min(promised_tokens, usage.prompt_tokens), usage.cached_tokens)
            self._note(claims, slot, usage, beside, time.monotonic() - began_s, first_byte_s)
        self.prefixes.place(claims.chain, claims.conversation, await self.engine.prompt(claims.model, body))

    def report(self) -> DeviceReport:
        """Everything that others may know of the device."""
        self.prefixes.check(self.engine.holds)
        artifact_count, artifact_bytes = self.artifacts.held()
        coming_or_here = [r for r in self.residency.residents.values() if r.state is not ModelState.UNLOADING]
        started_s = {r.model: r.since_s for r in coming_or_here if r.state is ModelState.READY}
        return DeviceReport(
            device=self.traits.id,
            gpu=self.traits.gpu,
            memory_bytes=self.traits.memory_bytes,
            kv_tokens=self.traits.kv_tokens,
            max_seqs=self.traits.max_seqs,
            engine=self.traits.engine,
            batch_tokens=self.traits.batch_tokens,
            gateway_started=self.started_s,
            serves=tuple(sorted(self.traits.weights_bytes)),
            models={
                r.model: ModelReport(
                    state="ready" if r.state is ModelState.READY else "loading",
                    since=r.since_s,
                    last_used=r.last_used_s,
                )
                for r in coming_or_here
            },
            engine_started=started_s,
            prefixes=tuple(self._believed(set(started_s))),
            artifact_count=artifact_count,
            artifact_bytes=artifact_bytes,
            host_models=self.host_cache.models,
            running=self.serving.running,
            queued=self.serving.queued,
            # Whoever is bound here would be refused; who isn't yet should go elsewhere, or wait.
            draining=self.draining or bool(self.engine.trouble),
            served_requests=self.totals.requests,
            served_prompt_tokens=self.totals.prompt_tokens,
            served_cached_tokens=self.totals.cached_tokens,
            expected_cached_tokens=self.totals.expected_tokens,
            loads=self.residency.loads,
        )

    def _believed(self, ready: Set[str]) -> Iterator[tuple[str, int, float, str]]:
        """The prefixes of models that serve, for what they proved to be worth."""
        for key, tokens, last_used_s, model in self.prefixes.entries():
            if model in ready and (worth := int(tokens * self.promises.share(model))):
                yield key, worth, last_used_s, model

    def _sequences(self, claims: Claims) -> int:
        """How many of its requests the engine works on at once."""
        return claims.sequences or self.traits.max_seqs

    def _warn_of_sharing(self, salt: str) -> None:
        if self.engine.takes_salt or salt in self._salts:
            return
        self._salts.add(salt)
        if len(self._salts) == 2:
            _log.warning("this engine can't keep tenants apart: one may learn from times what another has asked")

    def _forgotten(self, model: str, salt: str) -> None:
        self.prefixes.forget(model, salt)
        self.on_change()

    def _note(
        self,
        claims: Claims,
        slot: SequenceSlot,
        usage: Usage,
        beside: Beside,
        engine_s: float,
        first_byte_s: float,
    ) -> None:
        self.facts.add(
            claims.jti,
            claims.model,
            usage,
            beside,
            wait_s=slot.wait_s,
            load_s=slot.load_s,
            load_end_at=slot.load_end_at,
            engine_s=engine_s,
            first_byte_s=first_byte_s,
        )
        self.totals.requests += 1
        self.totals.prompt_tokens += usage.prompt_tokens
        self.totals.cached_tokens += usage.cached_tokens or 0
        # The model may have been lost and loaded again since; then nothing of this answer is in its cache.
        if self.residency.residents.get(claims.model) is slot.resident:
            self.prefixes.record(
                claims.model,
                claims.chain,
                self.clock(),
                conversation=claims.conversation,
                conversation_tokens=usage.prompt_tokens + usage.completion_tokens,
                salt=claims.salt,
            )
            self.on_change()

    def _abort_fenced(self) -> None:
        for call in self.calls:
            reason = self.fences.refusal(call.claims)
            if reason and call.aborted is None:
                call.aborted = fenced(reason)
                call.work.cancel()
