"""How many connections a gateway has files for."""

from __future__ import annotations

import pytest

from airflow_fate.gateway.http.connections import LOOKED_AT, OWN_FILES, ConnectionLimits


@pytest.mark.parametrize("files", [128, 256, 1024, 4096, 10**6])
def test_all_that_may_come_at_once_have_files(files: int) -> None:
    limits = ConnectionLimits.of(files)
    assert 2 * limits.most + LOOKED_AT * limits.backlog + OWN_FILES <= files
    assert limits.most >= 10


@pytest.mark.parametrize("files", [0, 16])
def test_there_is_always_one(files: int) -> None:
    assert ConnectionLimits.of(files).most == 1
