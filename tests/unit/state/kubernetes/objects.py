"""Pods and nodes as the API server tells of them."""

from __future__ import annotations

from typing import Any

from airflow_fate.cluster import ModelSpec
from airflow_fate.messages import DeviceReport
from airflow_fate.messages.labels import encode

Object = dict[str, Any]
GIB = 2**30
MODEL = ModelSpec("m", 1e9, 1e9, 2e9, {"NVIDIA-L40S": 100.0}, {"NVIDIA-L40S": 10.0})


def report(device: str, **changes: Any) -> DeviceReport:
    fixed = {"gpu": "L40S", "memory_bytes": 500 * GIB, "kv_tokens": 9, "max_seqs": 2, "engine": "vllm"}
    return DeviceReport.model_validate(fixed | {"gateway_started": 1.0, "device": device} | changes)


def pod(name: str, node: str = "node-1", address: str = "10.0.0.1", gpus: Object | None = None, **said: Any) -> Object:
    """A ready pod whose gateway has reported ``said``."""
    labels, annotations = encode(report(name, **said))
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "annotations": annotations},
        "spec": {"nodeName": node, "containers": [{"name": "engine", "resources": {"limits": gpus or {}}}]},
        "status": {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def node(name: str = "node-1", **labels: str) -> Object:
    """A healthy node; ``labels`` as ``gpu_product`` for ``nvidia.com/gpu.product``."""
    gpu_labels = {f"nvidia.com/{key.replace('_', '.', 1)}": value for key, value in labels.items()}
    return {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "zone-a", **gpu_labels}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
