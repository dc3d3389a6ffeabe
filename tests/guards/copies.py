"""How is a guard taken out? In a copy of the sources."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guards.guards import Guard

ROOT = Path(__file__).parents[2]


def copied(folder: Path) -> Path:
    """The folder, with a copy of the sources and their tests."""
    nothing_made = shutil.ignore_patterns("__pycache__", "data")
    for name in ("airflow_fate", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=nothing_made)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@contextmanager
def taken_out(copy: Path, guard: Guard) -> Iterator[None]:
    """Inside, the copy is without the guard."""
    file = copy / guard.file
    text = file.read_text()
    assert text.count(guard.text) == 1, "the guard is not where the list says"
    try:
        file.write_text(text.replace(guard.text, guard.without))
        yield
    finally:
        file.write_text(text)
