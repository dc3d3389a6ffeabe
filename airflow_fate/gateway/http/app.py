"""Which routes does a gateway have, and who may use each? OpenAI's, and FATE's own under ``/fate/v1``."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from airflow_fate.gateway.artifacts import KEY, AlreadyStored, NoRoom
from airflow_fate.gateway.core import Gateway
from airflow_fate.gateway.engines import base as engine
from airflow_fate.gateway.http.answer import Answer
from airflow_fate.gateway.http.auth import Guard, Role
from airflow_fate.gateway.http.errors import Refusal, invalid, respond, respond_to_nobody
from airflow_fate.gateway.http.intake import declared_bytes
from airflow_fate.gateway.report import metrics
from airflow_fate.messages import Claims
from airflow_fate.messages.binding import ARTIFACT_SUBJECT

NAME = re.compile(r"[\w.:-]{1,200}")
"""Of a stored output among those of its task, and of a reservation."""
WHY_CHARS = 1000

Handler = Callable[[Request, Claims], Awaitable[ASGIApp]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def create_app(gateway: Gateway, guard: Guard, lifespan: Lifespan | None = None) -> Starlette:
    """The gateway as an ASGI application."""
    routes = _Routes(gateway, guard)

    def guarded(path: str, handler: Handler, role: Role, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Any:
            return await handler(request, guard.check(request, role))

        return Route(path, endpoint, methods=[method], name=f"{method} {path}")

    return Starlette(
        routes=[
            Route("/health", _health),
            guarded("/metrics", routes.metrics, Role.READER),
            guarded("/v1/models", routes.models, Role.READER),
            guarded("/v1/chat/completions", routes.chat, Role.TASK, "POST"),
            guarded("/v1/completions", routes.completions, Role.TASK, "POST"),
            guarded("/fate/v1/report", routes.report, Role.READER),
            guarded("/fate/v1/facts", routes.facts, Role.TASK),
            guarded("/fate/v1/token", routes.token, Role.TASK, "POST"),
            guarded("/fate/v1/artifacts/{key}", routes.put_artifact, Role.TASK, "PUT"),
            guarded("/fate/v1/artifacts/{key}", routes.get_artifact, Role.ARTIFACT),
            guarded("/fate/v1/reservations/{reservation}/end", routes.end, Role.EXECUTOR, "POST"),
            guarded("/fate/v1/models/{model:path}/load", routes.load, Role.EXECUTOR, "POST"),
            guarded("/fate/v1/models/{model:path}/unload", routes.unload, Role.EXECUTOR, "POST"),
            guarded("/fate/v1/drain", routes.drain, Role.EXECUTOR, "POST"),
        ],
        exception_handlers={Refusal: respond, ClientDisconnect: respond_to_nobody},
        lifespan=lifespan,
    )


async def _health(request: Request) -> Response:
    return Response(status_code=204)


class _Routes:
    """The handlers; each gets the verified claims."""

    def __init__(self, gateway: Gateway, guard: Guard) -> None:
        self._gateway = gateway
        self._guard = guard

    async def chat(self, request: Request, claims: Claims) -> ASGIApp:
        return await self._answer(request, claims, "chat/completions")

    async def completions(self, request: Request, claims: Claims) -> ASGIApp:
        return await self._answer(request, claims, "completions")

    async def models(self, request: Request, claims: Claims) -> ASGIApp:
        known = sorted(self._gateway.traits.weights_bytes)
        return JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "fate"} for name in known]}
        )

    async def metrics(self, request: Request, claims: Claims) -> ASGIApp:
        engine = self._gateway.engine
        text = metrics.render(self._gateway.report(), engine.signals, engine.missing)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def report(self, request: Request, claims: Claims) -> ASGIApp:
        return Response(self._gateway.report().model_dump_json(), media_type="application/json")

    async def facts(self, request: Request, claims: Claims) -> ASGIApp:
        facts = self._gateway.facts.of(claims.jti)
        return JSONResponse(facts.model_dump(mode="json") | {"signed": self._guard.signed_facts(facts)})

    async def token(self, request: Request, claims: Claims) -> ASGIApp:
        """The same right for a while longer, as long as the reservation holds."""
        self._gateway.admit(claims)
        return JSONResponse({"token": self._guard.renewed(claims)})

    async def put_artifact(self, request: Request, claims: Claims) -> ASGIApp:
        key, name = _artifact_key(request), _name(request.query_params.get("name", ""), "name, of the output")
        self._gateway.admit(claims)
        try:
            async with self._gateway.intake.upload(request) as chunks:
                # All tries of a task are one owner; a token that doesn't tell its task replaces nothing.
                owner = f"{claims.task}\x1f{name}" if claims.task else ""
                size_bytes = await self._gateway.artifacts.put(key, chunks, owner, declared_bytes(request))
        except NoRoom as error:
            raise Refusal(507, "fate_no_room", str(error)) from error
        except AlreadyStored as error:
            raise Refusal(409, "fate_taken", str(error)) from error
        self._gateway.on_change()
        return JSONResponse({"key": key, "bytes": size_bytes, "read": self._guard.artifact_token(key)}, 201)

    async def get_artifact(self, request: Request, claims: Claims) -> ASGIApp:
        if claims.sub == ARTIFACT_SUBJECT and claims.jti != _artifact_key(request):
            raise Refusal(403, "fate_forbidden", "this token is for another artifact")
        path = self._gateway.artifacts.get(_artifact_key(request))
        if path is None:
            raise Refusal(404, "fate_no_artifact", f"artifact {request.path_params['key']} isn't here")
        return FileResponse(path, media_type="application/octet-stream")

    async def end(self, request: Request, claims: Claims) -> ASGIApp:
        reservation = _name(request.path_params["reservation"], "reservation")
        self._gateway.end(reservation, request.query_params.get("why", "")[:WHY_CHARS])
        return Response(status_code=204)

    async def load(self, request: Request, claims: Claims) -> ASGIApp:
        model = request.path_params["model"]
        self._gateway.check_model(model)
        if not self._gateway.serving.prefetch(model, claims.evict):
            raise Refusal(409, "fate_busy", f"model {model!r} would need the room of models that serve")
        return Response(status_code=202)

    async def unload(self, request: Request, claims: Claims) -> ASGIApp:
        model = request.path_params["model"]
        if not self._gateway.serving.evict(model):
            raise Refusal(409, "fate_busy", f"model {model!r} serves or loads")
        return Response(status_code=202)

    async def drain(self, request: Request, claims: Claims) -> ASGIApp:
        """Refuse new requests; ``?undo=true`` accepts them again."""
        self._gateway.drain(request.query_params.get("undo") != "true")
        return JSONResponse({"draining": self._gateway.draining, "running": self._gateway.serving.running})

    async def _answer(self, request: Request, claims: Claims, route: engine.Route) -> ASGIApp:
        self._gateway.admit(claims)
        return Answer(self._gateway, claims, route)


def _name(text: str, what: str) -> str:
    if not NAME.fullmatch(text):
        raise invalid(f"{what}: 1 to 200 letters, digits, and ._:- are expected, got {text[:80]!r}")
    return text


def _artifact_key(request: Request) -> str:
    key = request.path_params["key"]
    if not KEY.fullmatch(key):
        raise invalid("an artifact's key is 16 to 64 hex digits in lower case")
    return str(key)
