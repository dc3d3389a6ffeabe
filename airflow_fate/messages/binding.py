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

from airflow_fate.messages.report import Facts
from airflow_fate.messages.validation import explain

BINDING_KEY = "fate.binding"
STATS_KEY = "fate.stats"
FLEET_AUDIENCE = "fleet"
FACTS_AUDIENCE = "facts"
ARTIFACT_SUBJECT = "artifact"
ALGORITHM = "HS256"
TOKEN_VALID_S = 2 * 3600.0
"""A task renews its token in time; twice as long as the longest request may take."""
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
    :param task: digest of the task instance, the same for all of its tries: a later one replaces what one before left.
    :param sequences: how many of its requests the device works on at once; 0 where that isn't said.
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
    task: str = ""
    sequences: int = 0


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


def artifact_token(secret: str, device: str, key: str, valid_s: float) -> str:
    """A token that may read one stored output, and nothing else."""
    return sign(Claims(aud=device, sub=ARTIFACT_SUBJECT, jti=key, exp=int(time.time() + valid_s)), secret)


def renewed(claims: Claims, secret: str) -> str:
    """A token that says the same for a while longer."""
    return sign(claims.model_copy(update={"exp": int(time.time() + TOKEN_VALID_S)}), secret)


def sign_facts(facts: Facts, secret: str) -> str:
    """Facts as only a gateway of the fleet can state them."""
    return jwt.encode({"aud": FACTS_AUDIENCE, "facts": facts.model_dump(mode="json")}, secret, algorithm=ALGORITHM)


def verified_facts(signed: Any, secret: str) -> Facts:
    """The facts that a gateway signed.

    :raises TokenError: when none did, or they are out of bounds.
    """
    if not isinstance(signed, str):
        raise TokenError("facts refused: they must be a text that a gateway signed")
    try:
        payload = jwt.decode(signed, secret, algorithms=[ALGORITHM], audience=FACTS_AUDIENCE)
        return Facts.model_validate(payload.get("facts"))
    except jwt.PyJWTError as error:
        raise TokenError(f"facts refused: {error}") from error
    except ValidationError as error:
        raise TokenError(f"facts refused: {explain(error)}") from error


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
    :param reader: token to read stored outputs anywhere in the fleet; of earlier releases only.
    :param keep_key: with which the task locks what it leaves for its next try; the same for all of its tries.
    :param warning: for the task's log: what the executor had to do without, or a budget that is used up.
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
    keep_key: str = ""
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
