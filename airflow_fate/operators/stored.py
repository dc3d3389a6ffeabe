"""Where does a large output go? It stays on the node of the engine that made it; XCom carries a reference that reads as
text.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from airflow_fate.messages import DEFAULT_CONN_ID, FLEET_AUDIENCE, Binding, artifact_token
from airflow_fate.operators import runtime

log = logging.getLogger(__name__)
TIMEOUT_S = 60.0


class StoredText(BaseModel):
    """A reference to text on a node of the fleet. In a template it stands for the text itself.

    :param url: gateway that keeps it.
    :param capability: token that may read this text and nothing else: who may read the reference may read the text.
    :param conn_id: of references that earlier releases left without a capability: connection with the fleet's key.

    A reference comes from XCom, where others may write, so its URL may be anybody's: what is shown there opens this one
    text and nothing else.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    key: str
    node: str
    size_bytes: int
    capability: str = ""
    conn_id: str = DEFAULT_CONN_ID

    def read(self) -> str:
        """Fetch the text.

        :raises httpx.HTTPError: when its node is gone.
        """
        answer = httpx.get(
            f"{self.url}/fate/v1/artifacts/{self.key}",
            headers={"Authorization": f"Bearer {self._token()}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        answer.raise_for_status()
        return answer.text

    def _token(self) -> str:
        if self.capability:
            return self.capability
        from airflow.sdk.bases.hook import BaseHook

        key = BaseHook.get_connection(self.conn_id).password
        if not key:
            raise ValueError(
                f"this text is stored on node {self.node!r} by an earlier release: to read it, set the password of "
                f"connection {self.conn_id!r} to the fleet's key (the file `secret` of the fleet's folder)"
            )
        return artifact_token(key, FLEET_AUDIENCE, self.key, TIMEOUT_S)

    def __str__(self) -> str:
        return self.read()


def keep_small(text: str, name: str, binding: Binding | None, limit_bytes: int) -> str | StoredText:
    """The text itself when it is small, else a reference after it was stored where it was made.

    When it can't be stored (a full disk, say), it goes into XCom whole: slower, but nothing is lost.

    :param name: what it is of the task, so that its key differs from the task's other artifacts.
    """
    data = text.encode()
    if binding is None or len(data) <= limit_bytes:
        return text
    share = binding.shares[0]
    # Unguessable: it is derived from the device's signed token.
    key = hashlib.sha256(f"{share.token}\x1f{name}".encode()).hexdigest()
    headers = {"Authorization": f"Bearer {runtime.fresh_token(share)}"}
    try:
        answer = httpx.put(
            f"{share.url}/fate/v1/artifacts/{key}",
            params={"name": name},
            content=data,
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        capability = str(answer.raise_for_status().json()["read"])
    except (httpx.HTTPError, ValueError, LookupError) as error:
        log.warning(
            "%d bytes could not be stored on %s and go into XCom whole: %s", len(data), share.device, _why(error)
        )
        return text
    return StoredText(url=share.url, key=key, node=share.node, size_bytes=len(data), capability=capability)


def load_text(value: Any) -> str:
    """The text of a value that is either text or a reference (also as plain data)."""
    if isinstance(value, dict):
        value = StoredText.model_validate(value)
    return str(value)


def _why(error: Exception) -> str:
    if not isinstance(error, httpx.HTTPStatusError):
        return repr(error)
    try:
        return str(error.response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return error.response.text[:200]
