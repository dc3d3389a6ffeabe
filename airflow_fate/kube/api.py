"""What can be asked of the API server? A list, a watch and a server-side apply, each of which ends in bounded time."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Self

import httpx

from airflow_fate.kube.credentials import Credentials

Object = dict[str, Any]
REQUEST_S = 20.0
PAGE_ITEMS = 500
LINE_LIMIT_BYTES = 8 * 1024 * 1024
"""Kubernetes' objects are at most 1.5 MiB; a longer line is none of its."""


class ApiTrouble(Exception):
    """The API server can't be reached, refuses, or says what makes no sense.

    :param code: the HTTP status, 0 where there is none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code


class Gone(ApiTrouble):
    """The server no longer knows the version that was asked for: list again."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a collection, and the version from which a watch goes on."""

    items: tuple[Object, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one object; of a ``BOOKMARK`` only its version is of use."""

    kind: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    item: Object
    version: str


class Api:
    """One connection pool to one API server. Every method raises ``ApiTrouble`` and nothing else."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.date = ""
        """The server's time, as its last answer said."""
        self._client = httpx.AsyncClient(
            base_url=credentials.server, verify=credentials.tls, timeout=REQUEST_S, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> Object:
        """One object."""
        return await self._ask("GET", path, params={})

    async def create(self, path: str, item: Object) -> Object:
        """Make one, or ask a question that is one; returns it as the server has it."""
        sent = {"Content-Type": "application/json"}
        return await self._ask("POST", path, params={}, content=json.dumps(item), headers=sent)

    async def list(self, path: str, query: Mapping[str, str]) -> Listing:
        """The whole collection, page by page.

        :raises Gone: when the list changed so much meanwhile that the next page is lost.
        """
        items: list[Object] = []
        page: dict[str, str] = {"limit": str(PAGE_ITEMS)}
        while True:
            content = await self._ask("GET", path, params={**query, **page})
            try:
                items += content.get("items") or ()
                meta = content["metadata"]
                if not meta.get("continue"):
                    return Listing(tuple(items), meta["resourceVersion"])
                page["continue"] = meta["continue"]
            except (LookupError, TypeError, AttributeError) as error:
                raise ApiTrouble(f"{path}: not a list: {error!r}") from error

    async def watch(
        self, path: str, query: Mapping[str, str], version: str, timeout_s: int, silence_s: float
    ) -> AsyncGenerator[Event, None]:
        """What happens after ``version``, until the server ends it, at the latest after ``timeout_s``.

        :param silence_s: a connection that says nothing for so long is gone; more than ``timeout_s``.
        :raises Gone: when the server no longer knows the version.
        """
        asked = {
            **query,
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_s),
        }
        try:
            async with self._client.stream(
                "GET",
                path,
                params=asked,
                headers=self._credentials.headers(),
                timeout=httpx.Timeout(REQUEST_S, read=silence_s),
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(response)
                async with aclosing(_lines(response.aiter_bytes())) as lines:
                    async for line in lines:
                        yield _event(line)
        except (httpx.HTTPError, OSError) as error:
            raise ApiTrouble(f"{path}: {error!r}") from error

    async def apply(self, path: str, item: Object, manager: str) -> None:
        """Server-side apply: what ``manager`` said before and says no more goes, what others said stays."""
        await self._ask(
            "PATCH",
            path,
            params={"fieldManager": manager, "force": "true"},
            content=json.dumps(item),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    async def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        content: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        try:
            sent = {**self._credentials.headers(), **(headers or {})}
            response = await self._client.request(method, path, params=params, content=content, headers=sent)
            self.date = response.headers.get("date", "")
            if response.is_error:
                raise _refusal(response)
            answer = response.json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise ApiTrouble(f"{path}: {error!r}") from error
        if not isinstance(answer, dict):
            raise ApiTrouble(f"{path}: expected an object, got {type(answer).__name__}")
        return answer


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Lines that end in a line feed, and nothing else: JSON may hold other characters that Python takes for one."""
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.strip():
                    yield bytes(line)
        if len(rest) > LINE_LIMIT_BYTES:
            raise ApiTrouble(f"an event is longer than {LINE_LIMIT_BYTES} bytes")


def _event(line: bytes) -> Event:
    try:
        content = json.loads(line)
        kind, item = content["type"], content["object"]
        if kind == "ERROR":
            raise _trouble(str(item.get("message", "")), int(item.get("code", 0)))
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            raise ApiTrouble(f"unknown event {kind!r}")
        return Event(kind, item, str(item["metadata"]["resourceVersion"]))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ApiTrouble(f"an event makes no sense: {error!r}") from error


def _refusal(response: httpx.Response) -> ApiTrouble:
    try:
        message = str(response.json()["message"])
    except (ValueError, LookupError, TypeError):
        message = response.text[:200]
    return _trouble(message, response.status_code)


def _trouble(message: str, code: int) -> ApiTrouble:
    return Gone(message, code) if code == httpx.codes.GONE else ApiTrouble(message, code)
