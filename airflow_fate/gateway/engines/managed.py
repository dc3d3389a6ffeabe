"""How does a gateway run vLLM itself? One server a model, started and ended, or put to sleep and woken.

A sleeping server has its weights in host memory and is back in seconds (vLLM's sleep mode, level 1). As many sleep as
the node's host memory is said to hold.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence, Set
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from airflow_fate.gateway.child import end, free_port
from airflow_fate.gateway.engines import served
from airflow_fate.gateway.engines.base import Engine, EngineDied, EngineError, LoadFailed, Route
from airflow_fate.gateway.engines.served import LOAD_TIMEOUT_S, VLLM_SIGNALS, ServedEngine

END_WITH_STDIN = "airflow_fate.gateway.engines.end_with_stdin"
STOP_TIMEOUT_S = 30.0
"""More than the command that is tied to us takes to end what it started."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Server:
    process: asyncio.subprocess.Process
    engine: ServedEngine
    watch: asyncio.Task[None]
    is_asleep: bool = False


class ManagedEngine(Engine):
    """vLLM servers on this machine, one for each model that is loaded.

    :param files: model -> what vLLM calls the model: a folder, or a name in a hub.
    :param command: the server's, such as ``vllm serve --max-model-len=8192``; the model is put before the first option,
        for that is where vLLM wants it, and its name, host and port are added.
    :param kept: whether a model's weights should stay in host memory; None where servers can't sleep.
    :param load_timeout_s: how long a load may take.
    """

    takes_salt = True

    def __init__(
        self,
        files: Mapping[str, str],
        command: Sequence[str],
        kept: Callable[[str], bool] | None = None,
        *,
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        self._files = files
        options = next((k for k, word in enumerate(command) if word.startswith("-")), len(command))
        self._program, self._options = tuple(command[:options]), tuple(command[options:])
        self._kept = kept
        self._load_timeout_s = load_timeout_s
        self._servers: dict[str, _Server] = {}
        self._given_up: set[asyncio.Task[None]] = set()

    @property
    def signals(self) -> Mapping[str, float]:
        sums: dict[str, float] = {}
        for server in self._servers.values():
            for signal, value in server.engine.signals.items():
                sums[signal] = sums.get(signal, 0.0) + value
        return sums

    @property
    def trouble(self) -> str:
        return next((s.engine.trouble for s in self._servers.values() if s.engine.trouble and not s.is_asleep), "")

    @property
    def missing(self) -> Set[str]:
        return {signal for server in self._servers.values() for signal in server.engine.missing}

    async def load(self, model: str) -> None:
        server = self._servers.get(model)
        if server is None:
            await self._start(model)
        else:
            await self._wake(model, server)
        for name, other in list(self._servers.items()):
            if other.is_asleep and not self._keeps(name):
                await self._end(name)

    async def unload(self, model: str) -> None:
        server = self._servers.get(model)
        if server is None:
            return
        if self._keeps(model):
            try:
                await server.engine.sleep()
                server.is_asleep = True
                return
            except httpx.HTTPError as error:
                _log.warning("vLLM of %s does not sleep, so it ends: %r", model, error)
        await self._end(model)

    async def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        server = self._servers.get(model)
        if server is None:
            raise EngineDied(f"the engine of model {model!r} is gone")
        async with aclosing(server.engine.ask(model, route, body)) as documents:
            async for document in documents:
                yield document

    async def close(self) -> None:
        for work in self._given_up:
            work.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)
        await asyncio.gather(*(self._end(model) for model in list(self._servers)))

    def _keeps(self, model: str) -> bool:
        return self._kept is not None and self._kept(model)

    async def _start(self, model: str) -> None:
        port, key = free_port(), secrets.token_hex(16)
        # In the environment, for arguments are in every process list.
        environment = os.environ | {"VLLM_API_KEY": key} | ({"VLLM_SERVER_DEV_MODE": "1"} if self._kept else {})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", END_WITH_STDIN, *self._program, self._files[model], *self._options),
            *(f"--served-model-name={model}", "--host=127.0.0.1", f"--port={port}"),
            stdin=asyncio.subprocess.PIPE,
            env=environment,
        )
        url = f"http://127.0.0.1:{port}"
        engine = ServedEngine(url, (model,), VLLM_SIGNALS, key=lambda: key, load_timeout_s=self._load_timeout_s)
        engine.on_trouble = lambda: self.on_trouble()
        # One that answers no more is ended, so that there is one way in which a server goes: its process ends.
        engine.on_death = lambda name: self._spawn(self._give_up(name, engine, process))
        loading, ended = asyncio.create_task(engine.load(model)), asyncio.create_task(process.wait())
        try:
            await asyncio.wait({loading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                raise LoadFailed(f"model {model!r}: vLLM exited with {ended.result()}; see the gateway's log")
            loading.result()
        except BaseException:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await engine.close()
            await end(process, STOP_TIMEOUT_S)
            raise
        finally:
            ended.cancel()
        self._servers[model] = _Server(process, engine, asyncio.create_task(self._watch(model, process)))

    async def _wake(self, model: str, server: _Server) -> None:
        try:
            await server.engine.wake()
            await server.engine.load(model)
            server.is_asleep = False
        except (httpx.HTTPError, EngineError) as error:
            _log.warning("vLLM of %s does not wake, so it is started anew: %r", model, error)
            await self._end(model)
            await self._start(model)

    async def _end(self, model: str) -> None:
        server = self._servers.pop(model, None)
        if server is not None:
            server.watch.cancel()
            await server.engine.close()
            await end(server.process, STOP_TIMEOUT_S)

    async def _watch(self, model: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        server = self._servers.pop(model)
        await server.engine.close()
        self.on_death(model)

    async def _give_up(self, model: str, engine: ServedEngine, process: asyncio.subprocess.Process) -> None:
        """End a server that is lost, as soon as no answer of it runs; unless it is found again until then."""
        while engine.running:
            await asyncio.sleep(served.PERIOD_S)
            if engine.lists(model):
                with suppress(EngineError):
                    await engine.load(model)
                    return
        if process.stdin is not None:
            process.stdin.close()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._given_up.add(task)
        task.add_done_callback(self._given_up.discard)
