from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

from airflow_fate.gateway import artifacts as artifacts_module
from airflow_fate.gateway.artifacts import Artifacts, NoRoom
from tests.unit.gateway.helpers import Bench, bearer, executor_token, token

KEY = "0123456789abcdef"
OTHER_KEY = "fedcba9876543210"


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_what_was_put_is_read_with_the_token_that_it_came_with(bench: Bench) -> None:
    changes: list[str] = []
    bench.gateway.on_change = lambda: changes.append("changed")
    put = await bench.store(KEY, b"large", token())
    assert (put.status_code, put.json()["key"], put.json()["bytes"]) == (201, KEY, 5)
    reader = put.json()["read"]
    assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(reader))).content == b"large"
    said = bench.gateway.report()
    assert (said.artifact_count, said.artifact_bytes) == (1, 5)
    assert KEY not in said.model_dump_json(), "what leads to an output is nobody's business"
    assert changes


async def test_nobody_else_reads_it_and_its_token_opens_nothing_else(bench: Bench) -> None:
    put = await bench.store(KEY, b"large", token())
    reader = put.json()["read"]
    for stranger in (token("r2", 2), token("r1", 1, sub="artifact")):
        assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(stranger))).status_code == 403
    for path in (f"/fate/v1/artifacts/{'f' * 16}", "/fate/v1/facts", "/fate/v1/report", "/v1/models"):
        assert (await bench.client.get(path, headers=bearer(reader))).status_code == 403
    assert (await bench.chat(reader)).status_code == 403


async def test_an_older_release_reads_with_the_fleets_token(bench: Bench) -> None:
    await bench.store(KEY, b"large", token())
    for reader in (token("reader", aud="fleet"), executor_token()):
        assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(reader))).content == b"large"


async def test_a_reader_can_not_write_and_an_ended_reservation_neither(bench: Bench) -> None:
    path = f"/fate/v1/artifacts/{KEY}"
    reader = token("reader", aud="fleet")
    assert (await bench.store(KEY, b"x", reader)).status_code == 401
    bench.gateway.end("r1")
    assert (await bench.store(KEY, b"x", token())).status_code == 409
    assert (await bench.client.get(path, headers=bearer(reader))).status_code == 404


@pytest.mark.parametrize("key", ["short", "X" * 16, "0" * 65, "..%2f..%2fsecret", "0123456789abcdeg"])
async def test_keys_are_hex_digits_only(bench: Bench, key: str, tmp_path: Path) -> None:
    answer = await bench.store(key, b"x", token())
    assert answer.status_code in (400, 404)
    assert list(tmp_path.rglob("*")) == []
    with pytest.raises(ValueError, match="hex digits"):
        Artifacts(tmp_path, 10).get(key)


async def test_over_the_budget_nothing_is_left(bench: Bench, tmp_path: Path) -> None:
    await bench.store(KEY, b"x" * 600, token())
    answer = await bench.store(OTHER_KEY, b"x" * 600, token())
    assert (answer.status_code, answer.json()["error"]["type"]) == (507, "fate_no_room")
    assert "raise artifacts_gb in the fleet file" in answer.json()["error"]["message"]
    assert _files(tmp_path) == [KEY]


async def test_a_full_disk_is_said_plainly(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    answer = await bench.store(KEY, b"x", token())
    assert answer.status_code == 507
    assert f"No space left on device; make room for {tmp_path}" in answer.json()["error"]["message"]
    assert _files(tmp_path) == []


async def test_old_artifacts_make_room(tmp_path: Path) -> None:
    now_s = [os.stat(tmp_path).st_mtime]
    artifacts = Artifacts(tmp_path, budget_bytes=10, max_age_s=100, clock=lambda: now_s[0])
    await artifacts.put(KEY, _chunks(b"12345", b"678"))
    with pytest.raises(NoRoom):
        await artifacts.put(OTHER_KEY, _chunks(b"12345"))
    now_s[0] += 200
    assert await artifacts.put(OTHER_KEY, _chunks(b"12345")) == 5
    assert (artifacts.held(), artifacts.get(KEY)) == ((1, 5), None)


async def test_what_a_neighbour_stores_in_the_nodes_folder_counts(tmp_path: Path) -> None:
    mine, neighbours = Artifacts(tmp_path / "node", 100), Artifacts(tmp_path / "node", 100)
    assert mine.held() == (0, 0)
    await neighbours.put(KEY, _chunks(b"x" * 10))
    assert mine.held() == (1, 10)
    await mine.put(OTHER_KEY, _chunks(b"x" * 20))
    assert (mine.held(), neighbours.held()) == ((2, 30), (2, 30))


async def test_a_key_is_written_once(bench: Bench) -> None:
    reader = (await bench.store(KEY, b"mine", token())).json()["read"]
    answer = await bench.store(KEY, b"somebody else's", token("r2", 2))
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "fate_taken")
    assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(reader))).content == b"mine"


async def test_of_two_uploads_at_once_to_one_key_one_is_kept_whole(bench: Bench) -> None:
    both = await asyncio.gather(*(bench.store(KEY, content * 300, token()) for content in (b"a", b"b")))
    assert sorted(answer.status_code for answer in both) == [201, 409]
    assert bench.gateway.report().artifact_bytes == 300


async def test_all_uploads_of_a_node_share_its_budget(tmp_path: Path) -> None:
    mine, neighbours = (Artifacts(tmp_path, budget_bytes=20_000_000) for _ in range(2))
    most_bytes = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal most_bytes
        for _ in range(150):
            yield b"x" * 100_000
            most_bytes = max(most_bytes, sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()))

    uploads = [(mine, neighbours)[number % 2].put(f"{number:016x}", chunks()) for number in range(12)]
    done = await asyncio.gather(*uploads, return_exceptions=True)
    assert all(isinstance(outcome, NoRoom) or outcome == 15_000_000 for outcome in done)
    assert mine.held()[1] <= 20_000_000
    assert most_bytes <= 21_000_000


async def test_an_upload_alone_may_use_the_whole_budget(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, budget_bytes=1_000_000)
    assert await artifacts.put(KEY, _chunks(*[b"x" * 100_000] * 10)) == 1_000_000


async def test_what_an_earlier_try_stored_makes_room_for_the_next(bench: Bench, tmp_path: Path) -> None:
    assert (await bench.store(KEY, b"x" * 600, token("r1", 1, task="t"))).status_code == 201
    assert (await bench.store(OTHER_KEY, b"y" * 600, token("r2", 2, task="t"))).status_code == 201
    assert [name for name in _files(tmp_path) if not name.startswith(".")] == [OTHER_KEY]
    assert bench.gateway.report().artifact_bytes == 600


async def test_an_upload_that_fails_takes_nothing_away(bench: Bench) -> None:
    await bench.store(KEY, b"x" * 600, token("r1", 1, task="t"))
    assert (await bench.store(OTHER_KEY, b"y" * 1100, token("r2", 2, task="t"))).status_code == 507
    assert bench.gateway.artifacts.get(KEY)


@pytest.mark.parametrize(("task", "name"), [("another", "output"), ("t", "answers"), ("", "output")])
async def test_nothing_of_others_makes_room(bench: Bench, task: str, name: str) -> None:
    await bench.store(KEY, b"x" * 600, token("r1", 1, task="t"))
    assert (await bench.store(OTHER_KEY, b"y" * 600, token("r2", 2, task=task), name)).status_code == 507
    assert bench.gateway.artifacts.get(KEY)


@pytest.mark.parametrize("query", ["", "?name=", "?name=a/b", f"?name={'x' * 201}"])
async def test_an_output_has_a_name(bench: Bench, query: str, tmp_path: Path) -> None:
    answer = await bench.client.put(f"/fate/v1/artifacts/{KEY}{query}", content=b"x", headers=bearer(token()))
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert _files(tmp_path) == []


async def test_a_draft_whose_writer_died_makes_room(tmp_path: Path) -> None:
    now_s = [os.stat(tmp_path).st_mtime]
    artifacts = Artifacts(tmp_path, budget_bytes=10, clock=lambda: now_s[0])
    (tmp_path / ".draft-of-the-dead").write_bytes(b"x" * 10)
    with pytest.raises(NoRoom):
        await artifacts.put(KEY, _chunks(b"x"))
    now_s[0] += 3600
    assert await artifacts.put(KEY, _chunks(b"x")) == 1


async def test_a_node_has_a_bounded_number_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts_module, "MOST_OUTPUTS", 3)
    artifacts = Artifacts(tmp_path, budget_bytes=10)
    for number in range(3):
        await artifacts.put(f"{number:016x}", _chunks(b""), owner=str(number))
    with pytest.raises(NoRoom, match="3 of them already"):
        await artifacts.put(KEY, _chunks(b""))


async def test_uploads_are_bounded_in_size_and_number(tmp_path: Path) -> None:
    bench = Bench(tmp_path, upload_mb=0.0005, uploads=1)
    assert (await bench.store(KEY, b"x" * 501, token())).status_code == 413
    comes, goes_on = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        comes.set()
        await goes_on.wait()

    async def put() -> int:
        async with bench.gateway.intake.upload(_request(chunks())) as body:
            return await bench.gateway.artifacts.put(KEY, body)

    first = asyncio.create_task(put())
    await comes.wait()
    assert (await bench.store(OTHER_KEY, b"x", token())).status_code == 503
    goes_on.set()
    assert await first == 1
    assert _files(tmp_path) == [KEY]


def _request(chunks: AsyncIterator[bytes]) -> Request:
    async def receive() -> Message:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "method": "PUT", "headers": []}, receive)
