"""How does a gateway say no? In the form of OpenAI's API, so that its clients raise their usual errors."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_fate.gateway.engines.base import EngineDied, EngineError, LoadFailed, RequestRefused

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}}


class Refusal(Exception):
    """A request that is not served.

    :param kind: for programs, such as ``fate_fenced``.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message

    def document(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "code": self.status, "param": None}}

    def response(self) -> Response:
        return JSONResponse(self.document(), self.status, _HEADERS.get(self.status))


async def respond(request: Request, error: Exception) -> Response:
    """Starlette's handler for refusals."""
    assert isinstance(error, Refusal)
    return error.response()


async def respond_to_nobody(request: Request, error: Exception) -> Response:
    """Starlette's handler for clients that left before they had asked."""
    return Response(status_code=400)


def invalid(message: str) -> Refusal:
    """The request itself is at fault, on any device."""
    return Refusal(400, "invalid_request_error", message)


def fenced(message: str) -> Refusal:
    return Refusal(409, "fate_fenced", message)


def from_engine(error: EngineError) -> Refusal:
    """What an engine's failure means to who asked."""
    match error:
        case RequestRefused():
            return Refusal(error.status, "invalid_request_error", str(error))
        case LoadFailed():
            return Refusal(502, "fate_load_failed", str(error))
        case EngineDied():
            return Refusal(502, "fate_engine_died", str(error))
    return Refusal(502, "fate_engine_error", str(error))
