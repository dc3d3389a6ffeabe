"""Which programs is the cluster made of, and where are they?

Six Go programs, built from the modules that ``pins/`` fixes. They lie in a cache folder that is named by the pins'
digest, so they are built again when a pin changes and never otherwise.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).parent / "pins"
CACHE_ENV = "FATE_CLUSTER_CACHE"
# Program -> the folder in pins/ with its go.mod, and its package. The largest set of shared packages comes first.
SOURCES = {
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
}
# How kwok plays nodes and pods, from its own module: as fast as it can, with leases as heartbeats.
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)


class BuildError(RuntimeError):
    """A program could not be built; the message says which, and ends with what Go said."""


@dataclass(frozen=True)
class Binaries:
    """The built programs, and kwok's stages, in one folder."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    @property
    def stages(self) -> list[Path]:
        return [self.folder / "stages" / Path(stage).name for stage in STAGES]

    @property
    def missing(self) -> list[str]:
        return [name for name in SOURCES if not self[name].exists()]


def located() -> Binaries:
    """Where the programs of the present pins are, built or not."""
    cache = os.environ.get(CACHE_ENV) or Path.home() / ".cache" / "airflow-fate" / "cluster"
    return Binaries(Path(cache) / digest(PINS))


def digest(pins: Path) -> str:
    """16 hex digits that change with any file under ``pins``."""
    files = sorted(path for path in pins.rglob("*") if path.is_file())
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(pins)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def ensure(say: Callable[[str], None] = print) -> Binaries:
    """The built programs; builds what is missing, one line of progress for each.

    :raises BuildError: Go is not installed, or a build failed.
    """
    binaries = located()
    binaries.folder.mkdir(parents=True, exist_ok=True)
    # A second builder waits here, and then finds all built.
    with (binaries.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = binaries.missing
        for number, name in enumerate(missing, 1):
            say(f"[{number}/{len(missing)}] {name}: building into {binaries.folder}")
            began = time.monotonic()
            _build(name, binaries[name])
            say(f"[{number}/{len(missing)}] {name}: {time.monotonic() - began:.0f} s")
        if not all(stage.exists() for stage in binaries.stages):
            _copy_stages(binaries)
    return binaries


def _build(name: str, target: Path) -> None:
    pins, package = SOURCES[name]
    # Half a file never bears the name.
    partial = target.with_suffix(".partial")
    _go(name, PINS / pins, "build", "-trimpath", f"-ldflags=-s -w {_version_flags(pins)}", "-o", str(partial), package)
    partial.rename(target)


def _version_flags(pins: str) -> str:
    """The API server tells its version; without flags it would say v0.0.0, which charts refuse."""
    if pins != "kubernetes":
        return ""
    required = re.search(
        r"^require k8s.io/kubernetes (v(\d+)\.(\d+)\.\d+)$", (PINS / pins / "go.mod").read_text(), re.M
    )
    assert required, "pins/kubernetes/go.mod must require k8s.io/kubernetes"
    version, major, minor = required.groups()
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())


def _copy_stages(binaries: Binaries) -> None:
    module = _go("kwok", PINS / "kwok", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok").strip()
    (binaries.folder / "stages").mkdir(exist_ok=True)
    for source, target in zip(STAGES, binaries.stages, strict=True):
        # Not copy(): Go's module cache is read-only, and its modes would come along.
        shutil.copyfile(Path(module) / "kustomize" / "stage" / source, target)


def _go(name: str, folder: Path, *arguments: str) -> str:
    if not shutil.which("go"):
        raise BuildError(f"{name} is built from source and needs Go (https://go.dev/dl), which is not on the PATH")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    command = ["nice", "-n", "10", "go", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{name}: go {arguments[0]} failed in {folder}:\n{done.stderr[-4000:]}")
    return done.stdout
