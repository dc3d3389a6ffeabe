"""How does a gateway drive llama.cpp? One child process a model, spoken to over loopback HTTP."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from airflow_fate.gateway.child import end
from airflow_fate.gateway.engines import openai_api
from airflow_fate.gateway.engines.base import Engine, EngineDied, LoadFailed, Route

SERVER_MODULE = "airflow_fate.gateway.engines.llamacpp_server"
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 2.0


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    watch: asyncio.Task[None]


class LlamaCppEngine(Engine):
    """llama.cpp on this machine.

    :param files: model -> GGUF file.
    :param slots: requests that decode at once; llama.cpp keeps a prefix per slot, so one slot shares it best.
    :param context_tokens: context of each slot.
    :param cache_ram_mib: host memory in which llama.cpp keeps the prompts that left their slot.
    """

    def __init__(
        self, files: Mapping[str, Path], *, threads: int, slots: int, context_tokens: int, cache_ram_mib: int
    ) -> None:
        self._files = files
        self._options = {
            "--threads": threads,
            "--slots": slots,
            "--context-tokens": context_tokens,
            "--cache-ram-mib": cache_ram_mib,
        }
        self._children: dict[str, _Child] = {}

    async def load(self, model: str) -> None:
        file = self._files[model]
        if not file.is_file():
            raise LoadFailed(f"model {model!r}: its file {file} is missing")
        options = [str(part) for option in self._options.items() for part in option]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", SERVER_MODULE, "--model-file", str(file), "--alias", model, *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        api_key = secrets.token_hex(16)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                url = await _announced_url(process, api_key)
        except BaseException as error:
            await end(process, STOP_TIMEOUT_S)
            if isinstance(error, TimeoutError):
                raise LoadFailed(f"model {model!r} did not load within {START_TIMEOUT_S:.0f} s") from error
            raise
        if url is None:
            raise LoadFailed(f"model {model!r}: llama.cpp exited with {await process.wait()}; see the gateway's log")
        client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=None, trust_env=False
        )
        self._children[model] = _Child(process, client, asyncio.create_task(self._watch(model, process)))

    async def unload(self, model: str) -> None:
        child = self._children.pop(model, None)
        if child is not None:
            child.watch.cancel()
            await child.client.aclose()
            await end(child.process, STOP_TIMEOUT_S)

    async def ask(self, model: str, route: Route, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        child = self._children.get(model)
        if child is None:
            raise EngineDied(f"the engine of model {model!r} is gone")
        async with aclosing(openai_api.ask(child.client, model, route, body)) as documents:
            async for document in documents:
                yield document

    async def close(self) -> None:
        await asyncio.gather(*(self.unload(model) for model in list(self._children)))

    async def _watch(self, model: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        child = self._children.pop(model)
        await child.client.aclose()
        self.on_death(model)


async def _announced_url(process: asyncio.subprocess.Process, api_key: str) -> str | None:
    """The address that the child says it listens on; None when it exits without a word."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):
        process.stdin.write(f"{api_key}\n".encode())
        await process.stdin.drain()
    async for line in process.stdout:
        if line.startswith(b"listening "):
            return line.split()[1].decode()
    return None
