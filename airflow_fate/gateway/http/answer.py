"""How does an answer reach the client, and what ends it early? An ASGI response over the engine's documents.

The engine works only as long as somebody waits: a client that disconnects, and a reservation that ends, cancel it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_fate.gateway.core import Call, Gateway
from airflow_fate.gateway.engines.base import EngineError, RequestRefused, Route
from airflow_fate.gateway.http.errors import Refusal, from_engine
from airflow_fate.messages import Claims


class Answer:
    """Answers one request of an admitted reservation. An ASGI application, as Starlette's responses are."""

    def __init__(self, gateway: Gateway, claims: Claims, route: Route) -> None:
        self._gateway = gateway
        self._claims = claims
        self._route = route
        self._wants_usage = False
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._gateway.intake.document(Request(scope, receive)) as body:
            await self._answer(self._gateway.checked(self._claims, self._route, body), scope, receive, send)

    async def _answer(self, body: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._work(body, scope, receive, send))
        gone = asyncio.create_task(_disconnected(receive))
        call = Call(self._claims, work)
        self._gateway.calls.add(call)
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._gateway.calls.discard(call)
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if call.aborted:
            await self._refuse(call.aborted, scope, receive, send)
        elif not work.cancelled() and (error := work.exception()):
            raise error

    async def _work(self, body: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        if body.get("stream"):
            options = body.get("stream_options") or {}
            self._wants_usage = bool(options.get("include_usage"))
            # Streams are always counted, also for clients that don't ask for it.
            body = body | {"stream_options": {**options, "include_usage": True}}
        try:
            # Closed in any case, so that the engine is free when this returns.
            async with aclosing(self._gateway.ask(self._claims, self._route, body)) as documents:
                if body.get("stream"):
                    await self._stream(documents, send)
                else:
                    # Exhausted, not only begun: what follows the answer is the gateway's own book-keeping.
                    [document] = [document async for document in documents]
                    # Not Starlette's own JSON, which can't write all that can be read.
                    answer = json.dumps(document, separators=(",", ":"))
                    await Response(answer, media_type="application/json")(scope, receive, send)
        except EngineError as error:
            if not isinstance(error, RequestRefused):
                self._gateway.facts.fault(self._claims.jti, from_engine(error).kind)
            await self._refuse(from_engine(error), scope, receive, send)

    async def _stream(self, documents: AsyncIterator[dict[str, Any]], send: Send) -> None:
        async for document in documents:
            if document.get("choices") or self._wants_usage:
                await self._send_event(json.dumps(document, separators=(",", ":")), send)
        await self._send_event("[DONE]", send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_event(self, data: str, send: Send) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._started:
            await refusal.response()(scope, receive, send)
            return
        # The status has been sent; an error event without a following [DONE] is how OpenAI's clients learn of it.
        with suppress(OSError):
            await self._send_event(json.dumps(refusal.document()), send)
            await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
