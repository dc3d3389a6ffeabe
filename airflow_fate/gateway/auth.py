"""Who asks? Every route but liveness needs a token signed with the fleet's key; without a key nothing starts."""

from __future__ import annotations

from enum import Enum

from starlette.requests import Request

from airflow_fate.gateway.errors import Refusal
from airflow_fate.messages import FLEET_AUDIENCE, Claims, TokenError, verify
from airflow_fate.messages.binding import MIN_SECRET_BYTES

EXECUTOR_SUBJECT = "executor"


class NoSecret(ValueError):
    """The gateway has no key to check tokens with."""


class Role(Enum):
    """Who may use a route: the task that holds a reservation here, also any reader of the fleet, or the executor."""

    TASK = "task"
    READER = "reader"
    EXECUTOR = "executor"


class Guard:
    """Checks the bearer tokens of one device's gateway.

    :raises NoSecret: when the secret is missing or too short to be one.
    """

    def __init__(self, secret: str, device: str, setting: str = "secret") -> None:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise NoSecret(
                f"{setting}: must hold the fleet's key, at least {MIN_SECRET_BYTES} bytes; the gateway won't start"
            )
        self._secret = secret
        self._audiences = {
            Role.TASK: (device,),
            Role.READER: (device, FLEET_AUDIENCE),
            Role.EXECUTOR: (FLEET_AUDIENCE,),
        }

    def check(self, request: Request, role: Role) -> Claims:
        """The claims of the request's token.

        :raises Refusal: when it has none that is good for this route.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(401, "fate_unauthenticated", "this route needs 'Authorization: Bearer <token>'")
        try:
            claims = verify(token, self._secret, self._audiences[role])
        except TokenError as error:
            raise Refusal(401, "fate_unauthenticated", str(error)) from error
        if role is Role.EXECUTOR and claims.sub != EXECUTOR_SUBJECT:
            raise Refusal(403, "fate_forbidden", "this route is the executor's")
        return claims
