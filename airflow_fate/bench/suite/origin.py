"""Which code made a result? Digests of the scenarios and of all that decides in a simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]


@cache
def suite_digest() -> str:
    """Of the scenarios' code and data."""
    simulator = _PACKAGE / "simulator"
    return _digest([*(simulator / "suites").rglob("*.py"), *(simulator / "data").iterdir()])


@cache
def code_digest() -> str:
    """Of physics, planner and simulation."""
    folders = ("workflow", "cluster", "physics", "planner")
    sources = [source for folder in folders for source in (_PACKAGE / folder).rglob("*.py")]
    return _digest([*sources, *(_PACKAGE / "simulator").glob("*.py")])


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(files):
        digest.update(f"{file.relative_to(_PACKAGE)}\0".encode())
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    return digest.hexdigest()
