"""How does a gateway drive llama.cpp? One child process a model, spoken to over loopback HTTP.

llama.cpp knows no tenants: a prompt's beginning is taken from its slot, or from the host memory that all slots share,
whoever asked it before, and how fast that goes tells the next one. While all requests have the same ``cache_salt``
they may share. With the second salt the server is started anew without that memory, and from then on a request gets a
slot that its request names, and may reuse what lies there only if it is of its own salt.

Its HTTP server outlives its core. So while requests run the core is asked for a sign of life; a child whose core gives
none is ended, and with it its requests.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from airflow_fate.gateway.child import end
from airflow_fate.gateway.engines import openai_api
from airflow_fate.gateway.engines.base import Engine, EngineDied, LoadFailed, RequestRefused, Route
from airflow_fate.gateway.engines.pulse import MISSES, Pulse
from airflow_fate.gateway.engines.slots import Slots

SERVER_MODULE = "airflow_fate.gateway.engines.llamacpp_server"
LOAD_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 2.0
PERIOD_S = 10.0
LIFE_TIMEOUT_S = 600.0
"""The core answers between two batches. A batch has 2,048 tokens at most: 1,000 s on a CPU that computes 2 a second."""
_LIFE = "/lora-adapters"
"""What the core answers itself; ``/health`` never waits for it, and ``/slots`` doesn't while it computes a batch."""
_OURS = ("cache_salt", "id_slot", "cache_prompt")
"""What of a request's body is this driver's to say."""
_ANSWERS = ("n", "n_cmpl")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    watch: asyncio.Task[None]
    slots: Slots | None
    """None while all requests may share."""
    salt: str | None = None
    """Of all requests so far, while they may share."""
    running: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while none runs."""
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while some run."""
    pulse: Pulse = field(default_factory=Pulse)


class LlamaCppEngine(Engine):
    """llama.cpp on this machine.

    :param files: model -> GGUF file.
    :param slots: requests that decode at once; llama.cpp keeps a prefix per slot, so one slot shares it best.
    :param context_tokens: context of each slot.
    :param batch_tokens: that it computes in one step.
    :param cache_ram_mib: host memory in which llama.cpp keeps the prompts that left their slot.
    :param load_timeout_s: how long a load may take.
    """

    takes_salt = True

    def __init__(
        self,
        files: Mapping[str, Path],
        *,
        threads: int,
        slots: int,
        context_tokens: int,
        batch_tokens: int,
        cache_ram_mib: int,
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        self._files = files
        self._options = {
            "--threads": threads,
            "--slots": slots,
            "--context-tokens": context_tokens,
            "--batch-tokens": batch_tokens,
        }
        self._slots = slots
        self._cache_ram_mib = cache_ram_mib
        self._load_timeout_s = load_timeout_s
        self._is_apart = False
        """Whether there are several salts, so that servers have no memory that their prompts would share."""
        self._load_lock = asyncio.Lock()
        self._children: dict[str, _Child] = {}

    async def load(self, model: str) -> None:
        file = self._files[model]
        if not file.is_file():
            raise LoadFailed(f"model {model!r}: its file {file} is missing")
        options = self._options | {"--cache-ram-mib": 0 if self._is_apart else self._cache_ram_mib}
        words = [str(part) for option in options.items() for part in option]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", SERVER_MODULE, "--model-file", str(file), "--alias", model, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        api_key = secrets.token_hex(16)
        try:
            async with asyncio.timeout(self._load_timeout_s):
                url = await _announced_url(process, api_key)
        except BaseException as error:
            await end(process, STOP_TIMEOUT_S)
            if isinstance(error, TimeoutError):
                within = f"within {self._load_timeout_s:g} s, the device's load_timeout_s"
                raise LoadFailed(f"model {model!r} did not load {within}") from error
            raise
        if url is None:
            raise LoadFailed(f"model {model!r}: llama.cpp exited with {await process.wait()}; see the gateway's log")
        client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=None,
            trust_env=False,
            limits=openai_api.LIMITS,
        )
        slots = Slots(self._slots) if self._is_apart else None
        self._children[model] = _Child(process, client, asyncio.create_task(self._watch(model)), slots)

    async def unload(self, model: str) -> None:
        child = self._children.pop(model, None)
        if child is not None:
            child.watch.cancel()
            await child.client.aclose()
            await end(child.process, STOP_TIMEOUT_S)

    async def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        salt = str(body.get("cache_salt") or "")
        body = {name: value for name, value in body.items() if name not in _OURS}
        child = await self._child_for(model, salt)
        slot = None
        if child.slots is not None:
            if any(body.get(name) not in (None, 1) for name in _ANSWERS):
                # They would take further slots, whosoever they are.
                raise RequestRefused(400, "several answers to a prompt are not served where tenants share an engine")
            grant = child.slots.take(salt)
            slot = grant.slot
            body |= {"id_slot": slot, "cache_prompt": grant.is_own}
            if grant.forgotten is not None:
                self.on_forgotten(model, grant.forgotten)
        child.running += 1
        child.quiet.clear()
        child.busy.set()
        try:
            async with aclosing(openai_api.ask(child.client, model, route, body)) as documents:
                async for document in documents:
                    child.pulse.flows()
                    yield document
        finally:
            if child.slots is not None and slot is not None:
                child.slots.give_back(slot)
            child.running -= 1
            if not child.running:
                child.busy.clear()
                child.quiet.set()

    async def _child_for(self, model: str, salt: str) -> _Child:
        """The model's server, as one that may be asked with this salt."""
        async with self._load_lock:
            child = self._child_of(model)
            if child.slots is None and child.salt not in (None, salt):
                await self._keep_apart(model, child)
                child = self._child_of(model)
            child.salt = salt
            return child

    def _child_of(self, model: str) -> _Child:
        if model not in self._children:
            raise EngineDied(f"the engine of model {model!r} is gone")
        return self._children[model]

    async def _keep_apart(self, model: str, child: _Child) -> None:
        """From now on no request finds what another salt's has left."""
        self._is_apart = True
        if not self._cache_ram_mib:
            child.slots = Slots(self._slots, child.salt)
            return
        _log.warning("%s: requests of several tenants; llama.cpp starts anew without a cache in host memory", model)
        if child.running:
            await child.quiet.wait()
        if self._child_of(model) is not child:
            # It died, and the one that was loaded after it keeps salts apart.
            return
        self.on_forgotten(model, child.salt or "")
        try:
            await self.unload(model)
            await self.load(model)
        except BaseException:
            self.on_death(model)
            raise

    async def close(self) -> None:
        await asyncio.gather(*(self.unload(model) for model in list(self._children)))

    async def _watch(self, model: str) -> None:
        child = self._children[model]
        listening = asyncio.create_task(_end_when_silent(model, child))
        try:
            await child.process.wait()
        finally:
            listening.cancel()
        del self._children[model]
        await child.client.aclose()
        self.on_death(model)


async def _end_when_silent(model: str, child: _Child) -> None:
    """End a child whose core gives no sign of life while it has requests."""
    while True:
        await child.busy.wait()
        try:
            await child.client.get(_LIFE, timeout=LIFE_TIMEOUT_S)
            child.pulse.answered()
        except httpx.TransportError as error:
            if child.pulse.missed():
                _log.warning("%s: %d times llama.cpp's core was silent (%r), so it is ended", model, MISSES, error)
                await end(child.process, STOP_TIMEOUT_S)
        await asyncio.sleep(PERIOD_S)


async def _announced_url(process: asyncio.subprocess.Process, api_key: str) -> str | None:
    """The address that the child says it listens on; None when it exits without a word."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):
        process.stdin.write(f"{api_key}\n".encode())
        await process.stdin.drain()
    async for line in process.stdout:
        if line.startswith(b"listening "):
            return line.removeprefix(b"listening ").strip().decode()
    return None
