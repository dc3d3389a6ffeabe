"""Does the cache of a collection hold what there is, whatever the server does?"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from airflow_fate.kube.api import Api
from airflow_fate.state.kubernetes.cache import Cache, Timing
from tests.unit.state.kubernetes.objects import Object
from tests.unit.state.kubernetes.server import (
    Answer,
    FakeServer,
    bookmark,
    listing,
    refused,
    serving,
    versioned,
    watched,
)

PATH = "/api/v1/namespaces/here/pods"
QUICK = Timing(watch_s=5, silence_s=0.3, relist_s=60.0, pause_s=0.01, longest_pause_s=0.05)


class Held:
    """A sink that can be waited for."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = 0
        self._news = asyncio.Event()

    def replace(self, items: tuple[Object, ...]) -> None:
        self.names = {item["metadata"]["name"] for item in items}
        self.lists += 1
        self._news.set()

    def put(self, item: Object) -> None:
        self.names.add(item["metadata"]["name"])
        self._news.set()

    def drop(self, item: Object) -> None:
        self.names.discard(item["metadata"]["name"])
        self._news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self._news.clear()
                await self._news.wait()


def thing(name: str, version: str = "1") -> Object:
    return versioned({"metadata": {"name": name}}, version)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Those of the cache: other tests' threads may still have something to say."""
    return [
        record.message for record in caplog.records if record.name == Cache.__module__ and record.levelname != "INFO"
    ]


@asynccontextmanager
async def following(fake: FakeServer, timing: Timing = QUICK) -> AsyncIterator[tuple[Held, Cache]]:
    held = Held()
    async with serving(fake), Api(fake.credentials) as api:
        cache = Cache(api, PATH, {"labelSelector": "a=b"}, held, timing)
        task = asyncio.create_task(cache.follow())
        try:
            yield held, cache
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_list_page_by_page_then_what_happens() -> None:
    events = (("ADDED", thing("c", "3")), ("MODIFIED", thing("a", "4")), ("DELETED", thing("b", "5")))
    fake = FakeServer(
        {PATH: [listing(thing("a"), more="next"), listing(thing("b"), version="2")]},
        {PATH: [watched(*events, hang=True)]},
    )
    async with following(fake) as (held, _):
        await held.until(lambda: held.names == {"a", "c"})
    assert [query.get("continue") for query in fake.queries(watch=False)] == [None, "next"]
    assert {query["labelSelector"] for _, query in fake.asked} == {"a=b"}
    assert fake.queries(watch=True)[0]["resourceVersion"] == "2"


async def test_a_watch_that_ends_goes_on_from_its_last_bookmark_without_a_list() -> None:
    first = watched(("ADDED", thing("b", "3")), bookmark("7"))
    fake = FakeServer({PATH: [listing(thing("a"))]}, {PATH: [first, watched(("ADDED", thing("c", "8")), hang=True)]})
    async with following(fake) as (held, _):
        await held.until(lambda: held.names == {"a", "b", "c"})
        assert held.lists == 1
    assert [query["resourceVersion"] for query in fake.queries(watch=True)][:2] == ["1", "7"]


GONE = ("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


@pytest.mark.parametrize("gone", [refused(410), watched(GONE)], ids=["as a status", "as an event"])
async def test_a_forgotten_version_is_listed_anew_without_a_warning(
    gone: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeServer(
        {PATH: [listing(thing("a")), listing(thing("b"), version="9")]}, {PATH: [gone, watched(hang=True)]}
    )
    with caplog.at_level(logging.WARNING):
        async with following(fake) as (held, _):
            await held.until(lambda: held.names == {"b"})
    assert warnings(caplog) == []


async def test_a_half_open_connection_is_found_by_its_silence() -> None:
    fake = FakeServer(
        {PATH: [listing(thing("a")), listing(thing("b"), version="9")]},
        {PATH: [watched(bookmark("2"), hang=True), watched(hang=True)]},
    )
    async with following(fake) as (held, cache):
        await held.until(lambda: held.names == {"b"})
        assert cache.trouble == ""


@pytest.mark.parametrize(
    "line",
    [
        b"<html>bad gateway</html>",
        b'{"type": "ADDED"}',
        b'{"type": "SURPRISE", "object": {"metadata": {"resourceVersion": "3"}}}',
        b"[]",
        b'{"type": "ADDED", "object": {"metad',
        b'{"type": "ERROR", "object": {"code": "x"}}',
    ],
)
async def test_garbage_is_a_trouble_like_any_other(line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeServer(
        {PATH: [listing(thing("a")), listing(thing("b"), version="9")]}, {PATH: [watched(line), watched(hang=True)]}
    )
    async with following(fake) as (held, _):
        await held.until(lambda: held.names == {"b"})
    assert caplog.text.count("can't be watched") == 1


async def test_a_line_ends_at_a_line_feed_and_nowhere_else() -> None:
    odd = {"metadata": {"name": "b", "resourceVersion": "2", "annotations": {"note": "one\x85two\u2028three"}}}
    line = json.dumps({"type": "ADDED", "object": odd}, ensure_ascii=False).encode()
    fake = FakeServer({PATH: [listing(thing("a"))]}, {PATH: [watched(line, hang=True)]})
    async with following(fake) as (held, _):
        await held.until(lambda: held.names == {"a", "b"})
        assert held.lists == 1


async def test_while_the_server_refuses_the_last_state_stays_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lists = [listing(thing("a")), *[refused(401)] * 4, listing(thing("b"), version="9")]
    fake = FakeServer({PATH: lists}, {PATH: [refused(503), watched(hang=True)]})
    async with following(fake) as (held, cache):
        await held.until(lambda: held.names == {"a"})
        await held.until(lambda: held.names == {"b"})
        assert cache.trouble == ""
    assert held.lists == 2
    assert [said.partition(",")[0] for said in warnings(caplog)] == [
        f"{PATH} can't be watched",
        f"{PATH} can be watched again",
    ]


@pytest.mark.parametrize(
    "answer",
    [refused(410), watched(), watched(b"?"), watched(("ADDED", thing("b", "2")), b"?")],
    ids=["gone", "hangs up", "garbage", "garbage after sense"],
)
async def test_a_server_that_fails_for_ever_is_asked_ever_more_seldom(answer: Answer) -> None:
    timing = Timing(watch_s=5, silence_s=5, relist_s=60.0, pause_s=0.02, longest_pause_s=10.0)
    fake = FakeServer({PATH: [listing(thing("a"))]}, {PATH: [answer]})
    async with following(fake, timing):
        began_s = time.monotonic()
        await fake.until(lambda: len(fake.queries(watch=True)) == 6)
    # Pauses of 20, 40, 80, 160 and 320 ms, each cut by at most half.
    assert time.monotonic() - began_s >= 0.310


async def test_a_watch_that_is_alive_and_silent_is_checked_by_a_new_list() -> None:
    timing = Timing(watch_s=0, silence_s=5, relist_s=0.2, pause_s=0.01, longest_pause_s=0.05)
    fake = FakeServer({PATH: [listing(thing("a")), listing(thing("b"))]}, {PATH: [watched(bookmark("1"))]})
    async with following(fake, timing) as (held, _):
        await held.until(lambda: held.names == {"b"})
