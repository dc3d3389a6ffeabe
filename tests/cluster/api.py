"""How do the kubelet and the tests speak to the API server?

Objects are the JSON that the API server speaks; paths are its REST paths. A watch is a list first, then events, and
begins anew after every trouble.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

Object = dict[str, Any]
SERVER_SIDE_APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
WATCH_S = 60
# The server ends a watch by itself before this; silence for longer means that the connection is gone.
SILENCE_S = WATCH_S + 10.0
_RETRY_S = 0.5


class ApiError(RuntimeError):
    """The API server refused a request; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def now() -> str:
    """The time, in whole seconds, as objects have it (RFC 3339)."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Event:
    """``SYNCED`` with ``items``, all that there is; or ``ADDED``, ``MODIFIED``, ``DELETED`` with ``item``."""

    kind: str
    item: Object
    items: tuple[Object, ...] = ()


class Api:
    """One user's connection to one API server.

    :param server: its URL.
    :param authority: the certificate of who signed the server's.
    """

    def __init__(self, server: str, authority: Path, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        verify = ssl.create_default_context(cafile=str(authority))
        self._client = httpx.AsyncClient(base_url=server, verify=verify, headers=headers, timeout=30, trust_env=False)

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        return cls(cluster["server"], Path(cluster["certificate-authority"]), user["token"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **query: str) -> Object:
        """:raises ApiError: as all requests do."""
        return self._read(await self._client.get(path, params=query))

    async def text(self, path: str) -> str:
        """What is no JSON, such as its metrics."""
        answer = await self._client.get(path)
        if answer.is_error:
            raise ApiError(answer.status_code, answer.text)
        return answer.text

    async def create(self, path: str, item: Object) -> Object:
        return self._read(await self._client.post(path, json=item))

    async def patch(self, path: str, change: Object, how: str = MERGE) -> Object:
        return self._read(await self._client.patch(path, content=json.dumps(change), headers={"Content-Type": how}))

    async def apply(self, path: str, item: Object) -> Object:
        """Server-side apply, as the tests' own field manager; takes over what others own."""
        query = {"fieldManager": "test-cluster", "force": "true"}
        headers = {"Content-Type": SERVER_SIDE_APPLY}
        return self._read(await self._client.patch(path, content=json.dumps(item), headers=headers, params=query))

    async def delete(self, path: str, options: Object | None = None) -> Object:
        return self._read(await self._client.request("DELETE", path, json=options or {}))

    async def follow(self, path: str, **query: str) -> AsyncGenerator[Event, None]:
        """What there is under ``path``, then what happens to it, for ever. ``SYNCED`` comes again after troubles."""
        while True:
            try:
                listed = await self.get(path, **query)
                yield Event("SYNCED", {}, tuple(listed.get("items") or ()))
                async with aclosing(self._watch(path, listed["metadata"]["resourceVersion"], query)) as events:
                    async for event in events:
                        yield event
            except (httpx.TransportError, ApiError, json.JSONDecodeError):
                await asyncio.sleep(_RETRY_S)

    async def _watch(self, path: str, version: str, query: dict[str, str]) -> AsyncGenerator[Event, None]:
        """Events until the server forgets ``version``; the usual end of a watch is followed by the next."""
        while True:
            asked = {**query, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "1"}
            asked["timeoutSeconds"] = str(WATCH_S)
            timeout = httpx.Timeout(30, read=SILENCE_S)
            async with self._client.stream("GET", path, params=asked, timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                    self._read(response)
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 0), event["object"].get("message", ""))
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield Event(event["type"], event["object"])

    async def until(
        self, path: str, name: str, holds: Callable[[Object | None], bool], timeout_s: float = 30.0
    ) -> Object | None:
        """Wait until ``holds`` is true of the object (``None``: there is none), and return it.

        :param path: of its collection.
        :raises TimeoutError: with the object as it was last seen.
        """
        last: Object | None = None
        try:
            events = self.follow(path, fieldSelector=f"metadata.name={name}")
            async with asyncio.timeout(timeout_s), aclosing(events):
                async for event in events:
                    item = event.items[0] if event.items else event.item or None
                    last = None if event.kind == "DELETED" else item
                    if holds(last):
                        return last
        except TimeoutError:
            raise TimeoutError(f"{path}/{name} after {timeout_s} s: {json.dumps(last, indent=1)}") from None
        raise AssertionError("follow() never ends")

    @staticmethod
    def _read(response: httpx.Response) -> Object:
        if response.is_error:
            try:
                message = response.json().get("message", response.text)
            except json.JSONDecodeError:
                message = response.text
            raise ApiError(response.status_code, message)
        content: Object = response.json()
        return content
