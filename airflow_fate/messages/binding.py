"""What does the executor tell the task? Its binding, with a signed token per device that the gateway checks.

A token is the fencing token of a reservation (Kleppmann, "How to do distributed locking"): ``fence`` grows with every
claim on a device, and ``live`` lists the fences that were live there when it was issued. A gateway that has seen a
newer token refuses every older fence that is not in the newest list of live ones.
"""

from __future__ import annotations

import time
from typing import Any

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError

BINDING_KEY = "fate.binding"
STATS_KEY = "fate.stats"
FLEET_AUDIENCE = "fleet"
ALGORITHM = "HS256"
UNFENCED = 0
"""The fence of a token that was issued without the ledger; no ledger's fence is as low."""
MIN_SECRET_BYTES = 32


class TokenError(ValueError):
    """A token that must not be honoured."""


class Claims(BaseModel):
    """What a token says.

    :param aud: the device it is for, or ``fleet`` for reading artifacts and state.
    :param sub: task instance id (a UUID, new with every try).
    :param jti: reservation id.
    :param fence: its place among all claims on the device, or ``UNFENCED``.
    :param evict: models to evict for room, before others.
    :param chain: prefix chain of the prompts: (chain key, tokens), outermost first.
    :param conversation: chain key under which the conversation lies in the cache after the answer.
    :param salt: keeps the tenant's prompts apart from others' in the engine's cache; empty for those of no tenant.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    aud: str
    sub: str
    jti: str
    exp: int
    fence: int = UNFENCED
    live: tuple[int, ...] = ()
    model: str = ""
    evict: tuple[str, ...] = ()
    chain: tuple[tuple[str, int], ...] = ()
    conversation: str = ""
    salt: str = ""


def sign(claims: Claims, secret: str) -> str:
    """Sign claims with the fleet's key.

    :raises TokenError: when the key is shorter than 32 bytes.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise TokenError(f"the gateway key must have at least {MIN_SECRET_BYTES} bytes, got {len(secret.encode())}")
    return jwt.encode(claims.model_dump(mode="json"), secret, algorithm=ALGORITHM)


def verify(token: str, secret: str, audiences: tuple[str, ...]) -> Claims:
    """Check signature, expiry and audience.

    :raises TokenError: with the reason, when the token must be refused.
    """
    try:
        return Claims.model_validate(
            jwt.decode(token, secret, algorithms=[ALGORITHM], audience=list(audiences), options={"require": ["exp"]})
        )
    except (jwt.PyJWTError, ValidationError) as error:
        raise TokenError(f"token refused: {error}") from error


def reader_token(secret: str, subject: str, valid_s: float = 3600.0) -> str:
    """A token that may read artifacts and state on any gateway of the fleet, and nothing else."""
    return sign(Claims(aud=FLEET_AUDIENCE, sub=subject, jti="reader", exp=int(time.time() + valid_s)), secret)


class Share(BaseModel):
    """One device's part of a binding.

    :param url: base URL of its gateway, without ``/v1``.
    :param prompts: how many prompts of the batch it gets, in order.
    :param sequences: how many of them may be asked at once; 0 where that isn't said.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    device: str
    node: str
    url: str
    token: str
    prompts: int = 1
    sequences: int = 0


class Binding(BaseModel):
    """What ``task_state_store`` holds under ``fate.binding`` for one try of a task.

    :param error: set when no device can ever serve the task; it fails with this text.
    :param cost: predicted seconds: wait, load, transfer, prefill, decode, sync.
    :param reader: token to read parents' artifacts anywhere in the fleet.
    :param warning: what the executor had to do without, for the task's log.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    reservation: str
    ti_id: str
    try_number: int
    model: str = ""
    shares: tuple[Share, ...] = ()
    reason: str = ""
    held_s: float = 0.0
    held_because: str = ""
    cost: dict[str, float] = {}
    predicted_cached_tokens: int = 0
    reader: str = ""
    error: str = ""
    warning: str = ""

    @classmethod
    def parse(cls, value: Any) -> Binding:
        """Read what the store returned.

        :raises TokenError: when it is no binding of a version that this code knows.
        """
        if not isinstance(value, dict) or value.get("version") != 1:
            raise TokenError(f"fate.binding is not a version 1 binding: {str(value)[:80]}")
        return cls.model_validate(value)
