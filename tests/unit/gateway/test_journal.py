"""A restart of the gateway forgets nothing that it needs to know of ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_fate.gateway.serving.fences import Fences
from airflow_fate.gateway.serving.journal import KEPT_S, SPARE_LINES, Journal
from airflow_fate.messages import Claims


def _claims(fence: int, *live: int) -> Claims:
    return Claims(aud="d", sub="t", jti=f"r{fence}", exp=0, fence=fence, live=(*live, fence))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fences" / "gpu-0.jsonl"


def _restarted(path: Path) -> Fences:
    return Journal(path).fences


def test_an_ended_reservation_stays_ended(path: Path) -> None:
    fences = _restarted(path)
    fences.learn(_claims(7))
    fences.end("r7", "its try is over")
    for _ in range(3):
        again = _restarted(path)
        assert again.refusal(_claims(7)) == "reservation r7 has ended: its try is over"
        assert again.refusal(_claims(8)) is None


def test_a_stale_fence_stays_stale_and_a_live_one_alive(path: Path) -> None:
    _restarted(path).learn(_claims(9, 5))
    again = _restarted(path)
    assert again.refusal(_claims(5)) is None
    assert again.refusal(_claims(6)) is not None
    again.learn(_claims(6))
    assert again.refusal(_claims(9)) is None


@pytest.mark.parametrize(
    "torn", [b'\n{"at": 1', b"\n\xff\xfe\x00", b'\n{"at": "x", "fence": []}', b"\n[]", b"\nnull\n"]
)
def test_what_is_torn_is_left_out(path: Path, torn: bytes) -> None:
    fences = _restarted(path)
    fences.end("r1")
    with path.open("ab") as file:
        file.write(torn)
    fences.end("r2")
    again = _restarted(path)
    assert {*again.ended} == {"r1", "r2"}


def test_it_stays_small(path: Path) -> None:
    now_s = [0.0]
    journal = Journal(path, lambda: now_s[0])
    for number in range(4 * SPARE_LINES):
        now_s[0] += 10
        journal.fences.end(f"r{number}")
        journal.fences.learn(_claims(number))
    kept = {name for name in (f"r{number}" for number in range(4 * SPARE_LINES)) if name.encode() in path.read_bytes()}
    assert f"r{4 * SPARE_LINES - 1}" in kept
    assert len(path.read_bytes().split(b"\n")) < 2 * KEPT_S / 10 + 2 * SPARE_LINES
    again = Journal(path, lambda: now_s[0]).fences
    assert again.newest == 4 * SPARE_LINES - 1
    assert len(again.ended) == KEPT_S / 10


def test_after_all_tokens_have_expired_nothing_is_known(path: Path) -> None:
    now_s = [0.0]
    fences = Journal(path, lambda: now_s[0]).fences
    fences.learn(_claims(9))
    fences.end("r9")
    now_s[0] += KEPT_S
    again = Journal(path, lambda: now_s[0]).fences
    assert (again.newest, again.ended) == (-1, {})


def test_where_it_can_not_be_written_the_gateway_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    fences = _restarted(tmp_path / "file" / "gpu-0.jsonl")
    fences.end("r1")
    assert fences.ended
    assert "a restart forgets which reservations have ended" in caplog.text
