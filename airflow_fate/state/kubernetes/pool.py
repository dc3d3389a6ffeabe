"""Which pods are an InferencePool's, and where do they listen? As the Gateway API's inference extension says it.

https://gateway-api-inference-extension.sigs.k8s.io: version v1, and v1alpha2, which has other names for the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_fate.kube.api import Api, ApiTrouble

VERSIONS = ("inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2")
NOT_THERE = 404


@dataclass(frozen=True, slots=True)
class Chosen:
    """:param selector: a label selector."""

    selector: str
    port: int


def read_pool(item: Mapping[str, Any]) -> Chosen:
    """:raises ValueError: when it has no selector or no port."""
    spec = item.get("spec") or {}
    labels = spec.get("selector") or {}
    labels = labels.get("matchLabels", labels)
    ports = [port.get("number") for port in spec.get("targetPorts") or ()] or [spec.get("targetPortNumber")]
    if not labels or not isinstance(ports[0], int):
        raise ValueError("expected spec.selector.matchLabels and spec.targetPorts[0].number")
    return Chosen(",".join(f"{key}={value}" for key, value in sorted(labels.items())), ports[0])


async def find_pool(api: Api, namespace: str, name: str) -> Chosen:
    """:raises ApiTrouble: when it isn't there, may not be read, or makes no sense."""
    for version in VERSIONS:
        path = f"/apis/{version}/namespaces/{namespace}/inferencepools/{name}"
        try:
            return read_pool(await api.get(path))
        except ApiTrouble as error:
            if error.code != NOT_THERE or version == VERSIONS[-1]:
                raise
        except ValueError as error:
            raise ApiTrouble(f"{path}: {error}") from error
    raise AssertionError("unreachable")
