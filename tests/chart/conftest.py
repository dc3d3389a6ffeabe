"""The chart, rendered by the helm that the test cluster has built."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.binaries import located

CHART = Path(__file__).parents[2] / "helm" / "airflow-fate"
DOCS = Path(__file__).parents[2] / "docs" / "helm.md"
KUBERNETES = "1.35.0"
Values = dict[str, Any]
MODEL: Values = {
    "source": "org/small",
    "weightsGb": 16,
    "loadGbPerS": {"disk": 2, "host": 8},
    "prefillTps": {"A100": 12000},
    "decodeTps": {"A100": 70},
}


def base(**changes: object) -> Values:
    """Values with one model, a pool of each kind and an external database; ``changes`` replace whole sections."""
    values: Values = {
        "models": {"small": deepcopy(MODEL), "big": {**deepcopy(MODEL), "groupSize": 2}},
        "poolDefaults": {"gpu": "A100"},
        "pools": {
            "one": {"models": ["small"], "engine": {"image": "vllm/vllm-openai:v0.24.0"}},
            "play": {"models": ["small"], "driver": "simulated", "gpus": 0},
            "wide": {
                "models": ["big"],
                "engine": {"image": "vllm/vllm-openai:v0.24.0", "args": ["--pipeline-parallel-size=2"]},
                "group": {"size": 2, "workerCommand": ["ray", "start", "--address=$(LWS_LEADER_ADDRESS):6379"]},
            },
        },
        "airflow": {"database": {"existingSecret": "db"}},
    }
    return {**values, **changes}


@dataclass(frozen=True)
class Rendered:
    """The objects that a release consists of."""

    objects: tuple[Values, ...]

    def of(self, kind: str) -> dict[str, Values]:
        return {manifest["metadata"]["name"]: manifest for manifest in self.objects if manifest["kind"] == kind}

    def one(self, kind: str, name: str) -> Values:
        return self.of(kind)[name]

    def pods(self) -> dict[str, Values]:
        """Every pod template, as ``kind/name`` -> its metadata and spec."""
        templates = {}
        for manifest in self.objects:
            at, spec = f"{manifest['kind']}/{manifest['metadata']['name']}", manifest.get("spec") or {}
            if manifest["kind"] == "Pod":
                templates[at] = manifest
            elif manifest["kind"] == "LeaderWorkerSet":
                templates[f"{at}/leader"] = spec["leaderWorkerTemplate"]["leaderTemplate"]
                templates[f"{at}/worker"] = spec["leaderWorkerTemplate"]["workerTemplate"]
            elif "template" in spec:
                templates[at] = spec["template"]
        return templates


class Refused(Exception):
    """Helm refused the values; the text is its message."""


Helm = Callable[..., str]
Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm; raises ``Refused`` where it fails."""

    def run(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> str:
        command = [located()["helm"], *arguments, *(("--values", "-") if values is not None else ())]
        done = subprocess.run(
            command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """The chart's objects for some values, as release ``r`` in namespace ``space``."""

    def rendered(values: Mapping[str, Any], release: str = "r", namespace: str = "space") -> Rendered:
        text = helm(
            "template", release, CHART, f"--namespace={namespace}", f"--kube-version={KUBERNETES}", values=values
        )
        return Rendered(tuple(manifest for manifest in yaml.safe_load_all(text) if manifest))

    return rendered


def example(name: str) -> Values:
    """What docs/helm.md says to set for a kind of cluster."""
    example_block = re.search(rf"```yaml\n# {name}\n(.*?)```", DOCS.read_text(), re.S)
    assert example_block, name
    values: Values = yaml.safe_load(example_block[1])
    return values


def merged(*layers: Mapping[str, Any]) -> Values:
    """As Helm puts values over each other."""
    whole: Values = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = merged(whole[key], value) if both else deepcopy(value)
    return whole
