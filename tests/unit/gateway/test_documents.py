from __future__ import annotations

import json

import pytest

from airflow_fate.gateway.http.documents import read_object


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[1]",
        b"null",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a": "\xff"}',
        b'{"a": 1',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_could_not_be_passed_on_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_object(text)


def test_what_is_read_can_be_written() -> None:
    text = b'{"a": [1, 2.5, "\\ud83d", "\\u2028", null]}'
    assert read_object(json.dumps(read_object(text)).encode()) == read_object(text)
