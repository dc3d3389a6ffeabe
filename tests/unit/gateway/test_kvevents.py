"""What is heard of a prefix cache, however it is said."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from airflow_fate.gateway.cache.blocks import Blocks
from airflow_fate.gateway.engines.kvevents import EventReader
from tests.unit.gateway.test_blocks import SIZE, stored

EVENT = stored(["a"], None, [1, 2])


class Heard:
    def __init__(self) -> None:
        self.blocks = Blocks()
        self.reader = EventReader(self.blocks)
        self.number = 0

    def apply(self, batch: Any) -> bool:
        self.number += 1
        return self.reader.apply([b"", self.number.to_bytes(8, "big"), msgspec.msgpack.encode(batch)])

    @property
    def holds(self) -> bool:
        return self.blocks.size == SIZE and self.blocks.hold(self.blocks.split([1, 2], ()))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.mark.parametrize(
    "batch",
    [
        [0.0, [EVENT]],
        [0.0, [EVENT], 0, "more"],
        {"ts": 0.0, "events": [EVENT], "data_parallel_rank": 0, "more": 1},
        [0.0, [["BlockStored", ["a"], None, [1, 2], SIZE, None, "GPU", None, None, 0, "full_attention", None, 1]]],
    ],
)
def test_batches_and_events_come_as_lists_and_as_maps(heard: Heard, batch: Any) -> None:
    heard.apply(batch)
    assert heard.holds
    assert not heard.apply([0.0, []])
    assert heard.apply([0.0, [["AllBlocksCleared"]]])
    assert not heard.holds


def test_unknown_kinds_are_said_once_and_forget_nothing(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        heard.apply([0.0, [EVENT]])
        for _ in range(2):
            assert not heard.apply([0.0, [{"type": "BlockMoved"}, ["BlockMoved", 1]]])
    assert heard.holds
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.parametrize(
    "message",
    [
        [],
        [b""],
        [b"", b"\0" * 7 + b"\2", b"\xff"],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode(None)],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode({"ts": 1})],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode([0.0, 7])],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode([0.0, [7, None]])],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode([0.0, [EVENT | {"block_size": "2"}]])],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode([0.0, [EVENT | {"block_hashes": [[1]]}]])],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode([0.0, [EVENT | {"token_ids": None}]])],
        [b"", b"\0" * 7 + b"\2", msgspec.msgpack.encode([0.0, [EVENT | {"token_ids": [{}, []]}]])],
    ],
)
def test_what_makes_no_sense_leaves_nothing_known_and_does_not_end_the_hearing(
    heard: Heard, message: list[bytes]
) -> None:
    heard.apply([0.0, [EVENT]])
    assert heard.reader.apply(message)
    assert not heard.holds
    heard.number = 9
    heard.apply([0.0, [EVENT]])
    assert heard.holds
