from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_fate.operators import runtime
from tests.unit.operators.helpers import Gateway, serving


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task runs in a process of its own, which remembers its binding."""
    monkeypatch.setattr(runtime, "_current", None)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Gateway]:
    with serving("gpu-1") as server:
        yield server
