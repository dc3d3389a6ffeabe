"""Does the state source keep up with a thousand engine pods on 125 nodes?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from airflow_fate.gateway.ownpod import OwnPod
from airflow_fate.kube.api import Api as OurApi
from airflow_fate.state.kubernetes.source import KubernetesFleet, Where
from tests.cluster.api import Object
from tests.cluster.cluster import SIMULATED, Cluster
from tests.cluster.conftest import Namespace
from tests.cluster.kubelet.services import is_ready
from tests.cluster.test_state import READY, our_api, own_pod, report, seen

__all__ = ["our_api"]

PODS, NODES = 1000, 125
CHANGES = 100


@pytest.fixture
async def pods(namespace: Namespace, our_api: OurApi) -> AsyncIterator[list[OwnPod]]:
    """Simulated pods, all ready, each with a report on it."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "100", "nvidia.com/gpu": "8"}
    key, _, value = SIMULATED.partition("=")
    gpu = {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}
    taint = {"key": "simulated", "effect": "NoSchedule"}
    few = asyncio.Semaphore(16)

    async def make(number: int) -> OwnPod:
        name = f"engine-{number}"
        container = {"name": "engine", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        spec = {"nodeName": f"simulated-{number % NODES}", "containers": [container]}
        item = {"metadata": {"name": name, "labels": {"pool": "engines"}}, "spec": spec}
        async with few:
            own = own_pod(our_api, await namespace.create("pods", item))
            await own.write(report(name, llama=READY))
            return own

    for number in range(NODES):
        meta: Object = {"name": f"simulated-{number}", "labels": {key: value, **gpu}}
        status = {"capacity": room, "allocatable": room}
        await namespace.api.create("/api/v1/nodes", {"metadata": meta, "spec": {"taints": [taint]}, "status": status})
    try:
        made = list(await asyncio.gather(*(make(number) for number in range(PODS))))
        await _all_ready(namespace)
        yield made
    finally:
        await namespace.api.delete(namespace.path("pods"), {"gracePeriodSeconds": 0})
        await namespace.api.delete(f"/api/v1/nodes?labelSelector={SIMULATED}")


async def _all_ready(namespace: Namespace) -> None:
    ready: set[str] = set()
    async with asyncio.timeout(120), aclosing(namespace.api.follow(namespace.path("pods"))) as events:
        async for event in events:
            ready |= {pod["metadata"]["name"] for pod in event.items or (event.item,) if is_ready(pod)}
            if len(ready) == PODS:
                return


async def test_a_thousand_pods(tmp_path: Path, cluster: Cluster, namespace: Namespace, pods: list[OwnPod]) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("models: {}")
    where = Where(models, "pool=engines", 8475, namespace=namespace.name, kubeconfig=cluster.kubeconfig)
    source = KubernetesFleet(where, 300.0)
    began_s = time.monotonic()
    source.start()
    try:
        await seen(source, lambda view: len(view.usable) == PODS and all(view.usable.values()))
        assert time.monotonic() - began_s < 3.0
        delays_s = []
        for number in range(CHANGES):
            own = pods[number * 37 % PODS]
            model = f"model-{number}"
            written_s = time.monotonic()
            await own.write(report(own.name, **{model: READY}))
            while model not in source.snapshot().reports[own.name].models:
                await asyncio.sleep(0.002)
            delays_s.append(time.monotonic() - written_s)
        print(f"seen after {1000 * sorted(delays_s)[CHANGES // 2]:.0f} ms, p99 {1000 * sorted(delays_s)[-2]:.0f} ms")
        assert sorted(delays_s)[-2] < 0.3
    finally:
        await asyncio.to_thread(source.stop)
