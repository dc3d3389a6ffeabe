"""Each guard is taken out in turn, in a copy of the sources: its test must fail, as it must pass with the guard in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards.copies import copied, taken_out
from tests.guards.guards import GUARDS, Guard

pytestmark = pytest.mark.more
PASSED, FAILED = 0, 1
"""pytest's exit codes; others say that the test could not be run."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("guards"))


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_with_all_guards_in_their_tests_pass(copy: Path) -> None:
    done = run(copy, *sorted({guard.test for guard in GUARDS}))
    assert done.returncode == PASSED, done.stdout[-3000:]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_a_guard_its_test_fails(copy: Path, guard: Guard) -> None:
    with taken_out(copy, guard):
        done = run(copy, guard.test)
    assert done.returncode == FAILED, done.stdout[-3000:]
