"""How is an engine asked that speaks OpenAI's API? One request over HTTP, its documents as they come.

Whatever an engine says, a caller gets documents that can be passed on, or one of ``EngineError``'s kinds.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx

from airflow_fate.gateway.engines.base import EngineDied, EngineError, KeyRefused, RequestRefused, Route
from airflow_fate.gateway.http.documents import read_object

LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
"""A probe never waits for answers to end; servers close what is idle after 5 s, and who asks just then is cut off."""
EVENT_BYTES = 64 * 2**20
MESSAGE_CHARS = 1000
KEY = (401, 403)
_DEVICES = (404, 405, 407, 408, 429)
"""Though below 500, nothing that the sender of a request could mend: the model, the route or the room is missing."""


async def ask(
    client: httpx.AsyncClient, model: str, route: Route, body: dict[str, Any]
) -> AsyncGenerator[dict[str, Any]]:
    """As ``Engine.ask``.

    :param client: with the engine's base URL.
    """
    # Not httpx's own JSON, which can't write all that can be read.
    content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    try:
        async with client.stream("POST", f"/v1/{route}", content=content, headers=headers) as response:
            if response.status_code != 200:
                raise failure(response.status_code, await response.aread())
            if not body.get("stream"):
                yield _document(model, await response.aread())
                return
            is_whole = False
            async with aclosing(_events(model, response)) as events:
                async for event in events:
                    if event == b"[DONE]":
                        is_whole = True
                    elif event:
                        document = _document(model, event)
                        is_whole = is_whole or _ends(document)
                        yield document
            if not is_whole:
                raise EngineError(f"the engine of model {model!r} ended its answer early")
    except httpx.TransportError as error:
        raise EngineDied(f"the engine of model {model!r} died: {type(error).__name__}") from error
    except httpx.DecodingError as error:
        raise EngineError(f"the engine of model {model!r} answered what can't be read: {error}") from error


def failure(status: int, body: bytes) -> EngineError:
    """Whose fault an error is, by its HTTP status: the request's below 500, with exceptions, else the engine's."""
    message = _message(body)
    if status in KEY:
        return KeyRefused(f"the engine refuses the gateway's key with {status}: {message}")
    if 400 <= status < 500 and status not in _DEVICES:
        return RequestRefused(status, message)
    return EngineError(f"the engine answered {status}: {message}")


def _message(body: bytes) -> str:
    try:
        document = read_object(body)
    except ValueError:
        return body[:200].decode(errors="replace")
    error = document.get("error") or document
    return str(error.get("message") or error if isinstance(error, dict) else error)[:MESSAGE_CHARS]


def _document(model: str, data: bytes) -> dict[str, Any]:
    try:
        document = read_object(data)
    except ValueError as reason:
        raise EngineError(f"the engine of model {model!r} answered what is no document: {reason}") from reason
    error = document.get("error")
    if error or document.get("object") == "error":
        code = str(error.get("code") if isinstance(error, dict) else document.get("code"))
        status = int(code) if code.isascii() and code.isdecimal() and len(code) == 3 else 500
        raise failure(status, data)
    return document


async def _events(model: str, response: httpx.Response) -> AsyncGenerator[bytes]:
    """The data of server-sent events, one line each. Not httpx's lines: those end at a text's own separators, too."""
    rest = bytearray()
    async for part in response.aiter_bytes():
        rest += part
        if b"\n" in part:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in lines:
                if line.startswith(b"data:"):
                    yield line.removeprefix(b"data:").strip()
        elif len(rest) > EVENT_BYTES:
            raise EngineError(f"the engine of model {model!r} sends events without an end")
    if rest.startswith(b"data:"):
        yield bytes(rest).removeprefix(b"data:").strip()


def _ends(document: dict[str, Any]) -> bool:
    choices = document.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
    )
