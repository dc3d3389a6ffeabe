"""What are the workloads run on? Fleets of common GPUs, the open models that they serve, and their speeds.

The speeds follow from the GPU: reading a prompt is bound by its arithmetic, writing one token at a time by its memory's
bandwidth. They are of the order that vLLM reaches; what matters to a policy are their ratios.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node

_GB = 1e9
_DEVICES_PER_NODE = 4
_GROUP_SPEEDUP = 0.9
"""What each device of a group adds, relative to one alone."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    :param weights_gb: room for weights; the rest of its memory is for the KV cache.
    :param prefill_8b_tps: prompt tokens per second of a model with 8 billion parameters.
    :param read_gb_per_s: weights read per second when decoding.
    """

    weights_gb: float
    kv_tokens: int
    max_seqs: int
    prefill_8b_tps: float
    read_gb_per_s: float


@dataclass(frozen=True)
class Size:
    """A model: billions of parameters that compute, and gigabytes of weights."""

    parameters_b: float
    weights_gb: float
    group_size: int = 1


@dataclass(frozen=True)
class Storage:
    """Where weights come from, in gigabytes a second, and how much of them a node keeps in memory."""

    disk_gb_per_s: float
    host_gb_per_s: float
    host_gb: float


GPUS = {
    "h100": Gpu(62, 120_000, 12, 9000, 1800),
    "a100": Gpu(62, 100_000, 8, 4500, 1100),
    "l40s": Gpu(34, 60_000, 6, 3200, 600),
    "l4": Gpu(17, 24_000, 3, 1100, 230),
}

MODELS = {
    "phi-4b": Size(3.8, 7.6),
    "qwen-7b": Size(7.6, 15.2),
    "vl-7b": Size(8.3, 16.6),
    "llama-8b": Size(8.0, 16.0),
    "r1-8b": Size(8.0, 16.0),
    "qwen-14b": Size(14.8, 29.6),
    "mistral-24b": Size(24.0, 24.0),
    "qwen-32b": Size(32.8, 32.8),
    "llama-70b": Size(70.6, 70.6, group_size=2),
}

STORAGE = {
    "usual": Storage(1.5, 6.0, 96),
    "cheap": Storage(3.0, 15.0, 512),
    "dear": Storage(0.6, 0.6, 0),
}


def build_fleet(
    counts: Mapping[str, int],
    models: Iterable[str],
    storage: Storage,
    gbps: float = 25.0,
    pairs: int = 0,
) -> Fleet:
    """Nodes with four equal devices each.

    :param counts: GPU -> devices.
    :param pairs: groups of two neighbouring devices, made from the first ones.
    """
    nodes: dict[str, Node] = {}
    devices: dict[str, Device] = {}
    for gpu, count in counts.items():
        spec = GPUS[gpu]
        for number in range(count):
            node = f"{gpu}-node-{number // _DEVICES_PER_NODE}"
            nodes.setdefault(node, Node(node, f"zone-{len(nodes) % 2}", gbps, storage.host_gb * _GB))
            name = f"{gpu}-{number}"
            devices[name] = Device(name, node, gpu, spec.weights_gb * _GB, spec.kv_tokens, spec.max_seqs)
    names = list(devices)
    groups = {
        f"pair-{number}": DeviceGroup(f"pair-{number}", (names[2 * number], names[2 * number + 1]))
        for number in range(pairs)
    }
    return Fleet(nodes, devices, {name: _model(name, counts, storage) for name in models}, groups)


def _model(name: str, gpus: Iterable[str], storage: Storage) -> ModelSpec:
    size = MODELS[name]
    speedup = 1 + _GROUP_SPEEDUP * (size.group_size - 1)
    # A GPU whose memory is too small for a model has no speed for it.
    able = [gpu for gpu in gpus if GPUS[gpu].weights_gb >= size.weights_gb / size.group_size]
    return ModelSpec(
        name,
        weights_bytes=size.weights_gb * _GB,
        disk_bytes_per_s=storage.disk_gb_per_s * _GB,
        host_bytes_per_s=storage.host_gb_per_s * _GB,
        prefill_tps={gpu: round(GPUS[gpu].prefill_8b_tps * 8 / size.parameters_b * speedup, 1) for gpu in able},
        decode_tps={gpu: round(GPUS[gpu].read_gb_per_s / size.weights_gb * speedup, 2) for gpu in able},
        group_size=size.group_size,
    )
