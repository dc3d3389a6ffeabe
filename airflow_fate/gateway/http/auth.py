"""Who asks? Every route but liveness needs a token signed with the fleet's key; without a key nothing starts."""

from __future__ import annotations

from enum import Enum

from starlette.requests import Request

from airflow_fate.gateway.artifacts import MAX_AGE_S
from airflow_fate.gateway.http.errors import Refusal
from airflow_fate.messages import (
    FLEET_AUDIENCE,
    Claims,
    Facts,
    TokenError,
    artifact_token,
    renewed,
    sign_facts,
    verify,
)
from airflow_fate.messages.binding import ARTIFACT_SUBJECT, MIN_SECRET_BYTES

EXECUTOR_SUBJECT = "executor"


class NoSecret(ValueError):
    """The gateway has no key to check tokens with."""


class Role(Enum):
    """Who may use a route.

    The task that holds a reservation here; also any reader of the fleet; also who may read one stored output; or the
    executor alone.
    """

    TASK = "task"
    READER = "reader"
    ARTIFACT = "artifact"
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
        self._device = device
        self._audiences = {
            Role.TASK: (device,),
            Role.READER: (device, FLEET_AUDIENCE),
            Role.ARTIFACT: (device, FLEET_AUDIENCE),
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
        except RecursionError as error:
            raise Refusal(401, "fate_unauthenticated", "token refused: it is nested too deeply") from error
        reads_one = claims.sub == ARTIFACT_SUBJECT
        if reads_one is not (role is Role.ARTIFACT) and (reads_one or claims.aud == self._device):
            raise Refusal(403, "fate_forbidden", "a stored output is read with its own token, and nothing else is")
        if role is Role.EXECUTOR and claims.sub != EXECUTOR_SUBJECT:
            raise Refusal(403, "fate_forbidden", "this route is the executor's")
        return claims

    def signed_facts(self, facts: Facts) -> str:
        """What this gateway measured, so that the executor can tell that it did."""
        return sign_facts(facts, self._secret)

    def renewed(self, claims: Claims) -> str:
        """A token that says the same for a while longer."""
        return renewed(claims, self._secret)

    def artifact_token(self, key: str) -> str:
        """A token that may read this stored output, for as long as it is kept."""
        return artifact_token(self._secret, self._device, key, MAX_AGE_S)
