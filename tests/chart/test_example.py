"""Does the documentation's first example place anything, on nodes as NVIDIA's feature discovery labels them?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from re import S, search

import pytest
import yaml

from airflow_fate.cluster import ModelSpec
from airflow_fate.gateway.process import build_gateway
from airflow_fate.state.fleetschema import ModelPart
from airflow_fate.state.kubernetes.fleet import Assembly, assemble
from airflow_fate.state.kubernetes.nodes import read_node
from airflow_fate.state.kubernetes.pods import read_pod
from tests.chart.conftest import DOCS, Render, Rendered, Values
from tests.chart.test_pools import container, settings_of
from tests.unit.state.kubernetes.objects import node, pod

LABEL = "NVIDIA-A100-SXM4-80GB"


def first_example() -> Values:
    block = search(r"```yaml\n(.*?)```", DOCS.read_text(), S)
    assert block
    values: Values = yaml.safe_load(block[1])
    return values


def assembled(rendered: Rendered, name: str, folder: Path) -> Assembly:
    """The fleet of one pod of a pool, whose gateway says what it was told, on a node with such GPUs."""
    gateway = build_gateway(settings_of(rendered, name, folder))
    said = gateway.report().model_dump(exclude={"device"})
    engine = container(rendered.pods()[f"Deployment/r-fate-pool-{name}"], "engine")
    read = read_pod(pod("pod-1", gpus=engine["resources"]["limits"], **said), "fate.airflow", 8475)
    assert read
    labelled = read_node(node(gpu_product=LABEL, gpu_memory="81920", gpu_count="8"), "fate.airflow")
    parts = yaml.safe_load(rendered.one("ConfigMap", "r-fate-models")["data"]["models.yaml"])["models"]
    models: dict[str, ModelSpec] = {key: ModelPart.model_validate(part).to_spec(key) for key, part in parts.items()}
    return assemble([replace(read, node="node-1")], {"node-1": labelled}, models)


@pytest.mark.parametrize("speeds", ["A100", LABEL])
@pytest.mark.parametrize("gpu", ["A100", "any"])
def test_the_models_of_a_pool_are_placed_by_the_label_or_by_the_pools_own_name(
    render: Render, tmp_path: Path, speeds: str, gpu: str
) -> None:
    values = first_example()
    assert values["pools"]["llama"]["gpu"] in values["models"]["llama-8b"]["prefillTps"]
    values["models"]["llama-8b"] |= {"prefillTps": {speeds: 12000}, "decodeTps": {speeds: 70}}
    values["pools"]["llama"]["gpu"] = gpu
    fleet = assembled(render(values), "llama", tmp_path).fleet
    assert fleet.can_hold("pod-1", "llama-8b") == (speeds == LABEL or gpu == speeds)
    assert fleet.devices["pod-1"].serves == frozenset({"llama-8b"})
