"""Machine code is kept under a digest of all that it was package of, and somewhere, whoever owns the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_fate
from airflow_fate.physics.jit import compiled
from airflow_fate.physics.jit.compiled import cache_folder, digest

PACKAGE = Path(airflow_fate.__file__).parent
SOURCES = sorted(
    file.relative_to(PACKAGE)
    for folder in ("physics", "planner/forecast", "planner/dispatch")
    for file in (PACKAGE / folder).rglob("*.py")
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled sources, to be edited."""
    package = tmp_path_factory.mktemp("package")
    for source in SOURCES:
        (package / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / source, package / source)
    return package


def test_equal_sources_have_equal_digests(copy: Path) -> None:
    assert digest(copy) == digest(PACKAGE)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_an_edit_of_any_compiled_source_changes_the_digest(copy: Path, source: Path) -> None:
    before, text = digest(copy), (copy / source).read_bytes()
    try:
        (copy / source).write_bytes(text + b"\n")
        assert digest(copy) != before
    finally:
        (copy / source).write_bytes(text)
    assert digest(copy) == before


def test_two_sources_of_one_name_are_two(copy: Path) -> None:
    first, second = copy / "physics/terms.py", copy / "physics/jit/terms.py"
    before, texts = digest(copy), (first.read_bytes(), second.read_bytes())
    try:
        first.write_bytes(texts[1])
        second.write_bytes(texts[0])
        assert digest(copy) != before
    finally:
        first.write_bytes(texts[0])
        second.write_bytes(texts[1])


# Where it is kept


@pytest.fixture
def nobodys(tmp_path: Path) -> Path:
    """A folder that nobody may write to, not even root: a file stands where it would be."""
    (tmp_path / "taken").touch()
    return tmp_path / "taken" / "folder"


def test_it_is_kept_beside_the_sources_where_that_may_be(tmp_path: Path) -> None:
    assert cache_folder(tmp_path / "beside", tmp_path / "home", "d") == tmp_path / "beside" / "d"


def test_else_in_the_home_folder(tmp_path: Path, nobodys: Path) -> None:
    assert cache_folder(nobodys, tmp_path / "home", "d") == tmp_path / "home" / "d"


def test_what_somebody_else_has_compiled_is_taken_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, home = tmp_path / "beside", tmp_path / "home"
    (beside / "d" / "dispatch").mkdir(parents=True)
    (beside / "d" / "dispatch" / "rollout.nbi").write_bytes(b"index")
    may_write = compiled._may_write
    monkeypatch.setattr(compiled, "_may_write", lambda folder: home in folder.parents and may_write(folder))
    assert cache_folder(beside, home, "d") == home / "d"
    assert (home / "d" / "dispatch" / "rollout.nbi").read_bytes() == b"index"


def test_without_any_folder_it_runs_uncached(nobodys: Path) -> None:
    assert cache_folder(nobodys, nobodys, "d") is None


def test_a_planner_without_a_place_for_its_code_says_so_once_and_works(tmp_path: Path, nobodys: Path) -> None:
    """With plain Python in place of compiling: that it is imported and runs is what is shown."""
    package = tmp_path / "site" / "airflow_fate"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "simulator", "demo"))
    (package / "physics" / "jit" / "__pycache__").touch()
    code = "import logging; logging.basicConfig(); from airflow_fate.physics.dynamics import heap; print('works')"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=os.environ | {"PYTHONPATH": str(package.parent), "HOME": str(nobodys), "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.strip() == "works", done.stderr
    assert done.stderr.count("compiled anew in every process") == 1
