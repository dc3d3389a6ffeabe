"""What does a node say of itself? Its place, its health, and the GPUs that NVIDIA's feature discovery found. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_fate.cluster import Node

ZONE = "topology.kubernetes.io/zone"
MIB = 2**20
GB = 1e9
DEFAULT_GBPS = 10.0
_VENDOR = "nvidia.com/"


@dataclass(frozen=True, slots=True)
class Gpu:
    """What one unit of a GPU resource is.

    :param product: as its label says, with the MIG profile and ``-SHARED`` where that applies.
    :param memory_bytes: of the GPU or MIG slice, divided by the pods that may share it.
    """

    product: str
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node.

    :param gpus: by resource name, such as ``nvidia.com/gpu`` and ``nvidia.com/mig-1g.10gb``.
    :param evicting: its ``NoExecute`` taints, as (key, value).
    """

    node: Node
    ready: bool
    cordoned: bool
    evicting: tuple[tuple[str, str], ...] = ()
    gpus: Mapping[str, Gpu] = field(default_factory=dict)


def read_node(node: Mapping[str, Any], label_prefix: str) -> NodeFacts:
    """The facts of a node object; what its labels don't say gets the defaults of ``Node``.

    :raises ValueError: when it is no node, or a label that must be a number isn't.
    """
    try:
        name: str = node["metadata"]["name"]
        labels: Mapping[str, str] = node["metadata"].get("labels") or {}
        spec, conditions = node.get("spec") or {}, (node.get("status") or {}).get("conditions") or ()
        return NodeFacts(
            node=Node(
                name,
                zone=labels.get(ZONE, ""),
                gbps=_number(labels, f"{label_prefix}/gbps", DEFAULT_GBPS),
                host_bytes=_number(labels, f"{label_prefix}/host-gb", 0.0) * GB,
            ),
            ready=any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions),
            cordoned=bool(spec.get("unschedulable")),
            evicting=tuple(
                (taint["key"], taint.get("value", ""))
                for taint in spec.get("taints") or ()
                if taint["effect"] == "NoExecute"
            ),
            gpus=_gpus(labels),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not a node: {error!r}") from error


def _gpus(labels: Mapping[str, str]) -> dict[str, Gpu]:
    """By resource: whole GPUs (or, of strategy ``single``, slices), and with strategy ``mixed`` each profile."""
    gpus = {}
    for label, product in labels.items():
        if label.startswith(_VENDOR) and label.endswith(".product"):
            resource = label.removesuffix(".product")
            # Without sharing it is 1; 0 where the device plugin is told to share nothing.
            replicas = max(1.0, _number(labels, f"{resource}.replicas", 1.0))
            memory_bytes = _number(labels, f"{resource}.memory", 0.0) * MIB / replicas
            gpus[resource] = gpus[f"{resource}.shared"] = Gpu(product, memory_bytes)
    return gpus


def _number(labels: Mapping[str, str], key: str, default: float) -> float:
    text = labels.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"label {key} must be a number >= 0, got {text!r}")
    return value
