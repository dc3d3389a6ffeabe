"""How is an engine asked that speaks OpenAI's API? One request over HTTP, its documents as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from airflow_fate.gateway.engines.base import EngineDied, RequestRefused, Route


async def ask(
    client: httpx.AsyncClient, model: str, route: Route, body: dict[str, Any]
) -> AsyncGenerator[dict[str, Any]]:
    """As ``Engine.ask``.

    :param client: with the engine's base URL.
    """
    try:
        async with client.stream("POST", f"/v1/{route}", json=body) as response:
            if response.status_code != 200:
                raise refusal(response.status_code, await response.aread())
            if not body.get("stream"):
                yield json.loads(await response.aread())
                return
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    document = json.loads(line.removeprefix("data: "))
                    if "error" in document:
                        raise refusal(500, line.removeprefix("data: ").encode())
                    yield document
    except httpx.TransportError as error:
        raise EngineDied(f"the engine of model {model!r} died: {type(error).__name__}") from error


def refusal(status: int, body: bytes) -> RequestRefused:
    """What a server said in its error."""
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode(errors="replace")
    return RequestRefused(status, message)
