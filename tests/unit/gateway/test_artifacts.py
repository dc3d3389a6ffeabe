from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airflow_fate.gateway.artifacts import Artifacts, NoRoom
from tests.unit.gateway.helpers import Bench, bearer, executor_token, token

KEY = "0123456789abcdef"
OTHER_KEY = "fedcba9876543210"


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_what_was_put_is_read_with_the_token_that_it_came_with(bench: Bench) -> None:
    changes: list[str] = []
    bench.gateway.on_change = lambda: changes.append("changed")
    put = await bench.client.put(f"/fate/v1/artifacts/{KEY}", content=b"large", headers=bearer(token()))
    assert (put.status_code, put.json()["key"], put.json()["bytes"]) == (201, KEY, 5)
    reader = put.json()["read"]
    assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(reader))).content == b"large"
    said = bench.gateway.report()
    assert (said.artifact_count, said.artifact_bytes) == (1, 5)
    assert KEY not in said.model_dump_json(), "what leads to an output is nobody's business"
    assert changes


async def test_nobody_else_reads_it_and_its_token_opens_nothing_else(bench: Bench) -> None:
    put = await bench.client.put(f"/fate/v1/artifacts/{KEY}", content=b"large", headers=bearer(token()))
    reader = put.json()["read"]
    for stranger in (token("r2", 2), token("r1", 1, sub="artifact")):
        assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(stranger))).status_code == 403
    for path in (f"/fate/v1/artifacts/{'f' * 16}", "/fate/v1/facts", "/fate/v1/report", "/v1/models"):
        assert (await bench.client.get(path, headers=bearer(reader))).status_code == 403
    assert (await bench.chat(reader)).status_code == 403


async def test_an_older_release_reads_with_the_fleets_token(bench: Bench) -> None:
    await bench.client.put(f"/fate/v1/artifacts/{KEY}", content=b"large", headers=bearer(token()))
    for reader in (token("reader", aud="fleet"), executor_token()):
        assert (await bench.client.get(f"/fate/v1/artifacts/{KEY}", headers=bearer(reader))).content == b"large"


async def test_a_reader_can_not_write_and_an_ended_reservation_neither(bench: Bench) -> None:
    path = f"/fate/v1/artifacts/{KEY}"
    reader = token("reader", aud="fleet")
    assert (await bench.client.put(path, content=b"x", headers=bearer(reader))).status_code == 401
    bench.gateway.end("r1")
    assert (await bench.client.put(path, content=b"x", headers=bearer(token()))).status_code == 409
    assert (await bench.client.get(path, headers=bearer(reader))).status_code == 404


@pytest.mark.parametrize("key", ["short", "X" * 16, "0" * 65, "..%2f..%2fsecret", "0123456789abcdeg"])
async def test_keys_are_hex_digits_only(bench: Bench, key: str, tmp_path: Path) -> None:
    answer = await bench.client.put(f"/fate/v1/artifacts/{key}", content=b"x", headers=bearer(token()))
    assert answer.status_code in (400, 404)
    assert list(tmp_path.rglob("*")) == []
    with pytest.raises(ValueError, match="hex digits"):
        Artifacts(tmp_path, 10).get(key)


async def test_over_the_budget_nothing_is_left(bench: Bench, tmp_path: Path) -> None:
    await bench.client.put(f"/fate/v1/artifacts/{KEY}", content=b"x" * 600, headers=bearer(token()))
    answer = await bench.client.put(f"/fate/v1/artifacts/{OTHER_KEY}", content=b"x" * 600, headers=bearer(token()))
    assert (answer.status_code, answer.json()["error"]["type"]) == (507, "fate_no_room")
    assert "raise artifacts_gb in the fleet file" in answer.json()["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


async def test_a_full_disk_is_said_plainly(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    answer = await bench.client.put(f"/fate/v1/artifacts/{KEY}", content=b"x", headers=bearer(token()))
    assert answer.status_code == 507
    assert f"No space left on device; make room for {tmp_path}" in answer.json()["error"]["message"]
    assert list(tmp_path.iterdir()) == []


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
