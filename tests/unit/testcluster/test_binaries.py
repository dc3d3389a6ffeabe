"""Are the cluster's programs built again when, and only when, a pin changes?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.binaries import CACHE_ENV, PINS, SOURCES, Binaries, digest


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that are built, into a cache of the test's own, by a Go that only makes files of their names."""
    packages: list[str] = []
    module = tmp_path / "module"
    for stage in binaries.STAGES:
        (module / "kustomize" / "stage" / stage).parent.mkdir(parents=True, exist_ok=True)
        (module / "kustomize" / "stage" / stage).write_text("stage")

    def go(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if "-o" in command:
            packages.append(command[-1])
            Path(command[command.index("-o") + 1]).write_text("program")
        return subprocess.CompletedProcess(command, 0, f"{module}\n", "")

    monkeypatch.setattr(subprocess, "run", go)
    monkeypatch.setattr(shutil, "which", lambda _: "/go")
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    return packages


def test_all_is_built_once(built: list[str], tmp_path: Path) -> None:
    lines: list[str] = []
    ensured = binaries.ensure(lines.append)
    assert ensured == Binaries(tmp_path / "cache" / digest(PINS))
    assert built == [package for _, package in SOURCES.values()]
    assert all(ensured[name].exists() for name in SOURCES)
    assert all(stage.read_text() == "stage" for stage in ensured.stages)
    for name in SOURCES:
        assert any(name in line for line in lines)
    built.clear()
    binaries.ensure(lines.append)
    assert built == []


def test_a_build_that_was_cut_off_goes_on(built: list[str]) -> None:
    ensured = binaries.ensure(print)
    ensured["kwok"].rename(ensured.folder / "kwok.partial")
    built.clear()
    binaries.ensure(print)
    assert built == [SOURCES["kwok"][1]]


def test_any_changed_pin_is_another_digest(tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    shutil.copytree(PINS, pins)
    assert digest(pins) == digest(PINS)
    changed = pins / "helm" / "go.sum"
    changed.write_text(changed.read_text() + "\n")
    assert digest(pins) != digest(PINS)


def test_without_go_it_is_said_what_is_missing(built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(binaries.BuildError, match="Go"):
        binaries.ensure(print)
