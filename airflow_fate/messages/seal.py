"""How does a binding lie where others can read it? Sealed: encrypted and signed with a key of its own.

Airflow's task state store is open to who may read a DAG's runs, and to be written by who may trigger them. The key
travels with the task's workload, as the task's own token for Airflow does, and is in no database.
"""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from airflow_fate.messages.binding import Binding, TokenError

SEAL_KEY = "fate-seal"
"""Name of the key in the carrier that comes with a workload."""
SEALED_VERSION = 2


def new_seal_key() -> str:
    """A key for one try."""
    return Fernet.generate_key().decode()


def sealed(binding: Binding, key: str) -> dict[str, Any]:
    """What the state store gets: for people, where the try is bound and why; for the task, the binding."""
    return {
        "version": SEALED_VERSION,
        "ti_id": binding.ti_id,
        "try_number": binding.try_number,
        "reservation": binding.reservation,
        "model": binding.model,
        "devices": [share.device for share in binding.shares],
        "reason": binding.reason or binding.error,
        "sealed": locked(binding.model_dump_json(), key),
    }


def unsealed(value: Any, key: str) -> Binding:
    """The binding that the state store returned.

    :param key: of the try; empty where its scheduler is of a release that sealed nothing.
    :raises TokenError: when it is no binding that the scheduler made for this try.
    """
    if not key:
        return Binding.parse(value)
    if not isinstance(value, dict) or value.get("version") != SEALED_VERSION:
        raise TokenError(f"fate.binding is not a version {SEALED_VERSION} binding: {str(value)[:80]}")
    try:
        return Binding.model_validate_json(Fernet(key).decrypt(str(value.get("sealed", "")).encode()))
    except (InvalidToken, ValueError) as error:
        raise TokenError("fate.binding was not made by the scheduler for this try: somebody replaced it") from error


def locked(text: str, key: str) -> str:
    """A text that a task leaves in the store for its next try."""
    return Fernet(key).encrypt(text.encode()).decode()


def unlocked(text: str, key: str) -> str:
    """:raises TokenError: when no try of this task has left it."""
    try:
        return Fernet(key).decrypt(text.encode()).decode()
    except (InvalidToken, ValueError) as error:
        raise TokenError("it was not left by an earlier try of this task") from error
