"""Does the state source keep up with a thousand engine pods, and what does all of it ask of the API server?

The pods are simulated, their reports are written as gateways write them, and the API server counts what it was asked.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from airflow_fate.gateway.report.kubernetes_pod import HEARTBEAT_S, INTERVAL_S, KubernetesPod, heartbeat_s
from airflow_fate.gateway.report.publisher import Publisher
from airflow_fate.kube.api import Api as OurApi
from airflow_fate.kube.credentials import find_credentials
from airflow_fate.messages import DeviceReport
from airflow_fate.state.kubernetes.source import KubernetesFleet, Where
from tests.cluster.api import Api, Object
from tests.cluster.cluster import SIMULATED, Cluster
from tests.cluster.conftest import Namespace, new_namespace
from tests.cluster.gateways import READY, own_pod, report

PODS, NODES, CHANGES = 1000, 125, 100
IDLE_S = 120.0
BUSY_PODS, BUSY_S, BUSY_PERIOD_S = 100, 20.0, 0.1
POLL_S, LOOK_S = 0.002, 1.0
OF_US = ("pods", "nodes")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """What a fleet of this size costs.

    :param complete_s: from the start of a scheduler's watch until it knows all pods.
    :param change_p50_s: from the write of a pod's report until it is in the planner's snapshot.
    :param memory_bytes: by which the process that watches has grown.
    :param idle_requests_per_s: all gateways' and the scheduler's, while nothing happens.
    :param busy_patches_per_pod_and_2_s: of gateways whose report changes ten times a second.
    """

    pods: int
    nodes: int
    complete_s: float
    change_p50_s: float
    change_p99_s: float
    memory_bytes: int
    idle_requests_per_s: float
    busy_patches_per_pod_and_2_s: float


async def measure(folder: Path, say: Say) -> Scale:
    """All of it, on a cluster of its own."""
    with Cluster(folder / "cluster", say=say) as cluster:
        async with (
            Api.of(cluster.kubeconfig) as api,
            OurApi(find_credentials(cluster.kubeconfig)) as ours,
            new_namespace(api) as namespace,
            _pods(namespace, ours) as pods,
        ):
            say(f"{len(pods)} pods are there")
            models = folder / "models.yaml"
            models.write_text("models: {}")
            where = Where(models, "pool=engines", 8475, namespace=namespace.name, kubeconfig=cluster.kubeconfig)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
                grown = other.submit(_growth, where)
                complete_s, delays_s = await _watched(where, pods)
                memory_bytes = await asyncio.wrap_future(grown)
            say(f"all known after {complete_s:.2f} s; next: {IDLE_S:.0f} s without changes")
            idle = await _idle(api, where, pods)
            busy = await _busy(api, pods[:BUSY_PODS])
    p50_s, p99_s = np.quantile(delays_s, (0.5, 0.99), method="inverted_cdf")
    return Scale(
        pods=PODS,
        nodes=NODES,
        complete_s=round(complete_s, 3),
        change_p50_s=round(float(p50_s), 3),
        change_p99_s=round(float(p99_s), 3),
        memory_bytes=memory_bytes,
        idle_requests_per_s=round(idle, 2),
        busy_patches_per_pod_and_2_s=round(busy, 3),
    )


@asynccontextmanager
async def _pods(namespace: Namespace, ours: OurApi) -> AsyncIterator[list[KubernetesPod]]:
    """Simulated pods, all ready, each with a report on it."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "100", "nvidia.com/gpu": "8"}
    key, _, value = SIMULATED.partition("=")
    gpu = {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}
    taint = {"key": "simulated", "effect": "NoSchedule"}
    few = asyncio.Semaphore(16)

    async def make(number: int) -> KubernetesPod:
        name = f"engine-{number}"
        container = {"name": "engine", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        spec = {"nodeName": f"simulated-{number % NODES}", "containers": [container]}
        item = {"metadata": {"name": name, "labels": {"pool": "engines"}}, "spec": spec}
        async with few:
            own = own_pod(ours, await namespace.create("pods", item))
            await own.write(report(name, llama=READY))
            return own

    for number in range(NODES):
        meta: Object = {"name": f"simulated-{number}", "labels": {key: value, **gpu}}
        status = {"capacity": room, "allocatable": room}
        await namespace.api.create("/api/v1/nodes", {"metadata": meta, "spec": {"taints": [taint]}, "status": status})
    pods = list(await asyncio.gather(*(make(number) for number in range(PODS))))
    await namespace.all_ready(PODS, 120.0)
    yield pods


async def _watched(where: Where, pods: list[KubernetesPod]) -> tuple[float, list[float]]:
    """Seconds until all was known, and of each change until it was."""
    source = KubernetesFleet(where, 300.0)
    began_s = time.monotonic()
    source.start()
    try:
        while not _is_complete(source):
            await asyncio.sleep(POLL_S)
        complete_s = time.monotonic() - began_s
        delays_s = []
        for number in range(CHANGES):
            own = pods[number * 37 % PODS]
            model = f"model-{number}"
            written_s = time.monotonic()
            await own.write(report(own.name, **{model: READY}))
            while model not in source.snapshot().reports[own.name].models:
                await asyncio.sleep(POLL_S)
            delays_s.append(time.monotonic() - written_s)
        return complete_s, delays_s
    finally:
        await asyncio.to_thread(source.stop)


def _is_complete(source: KubernetesFleet) -> bool:
    usable = source.snapshot().usable
    return len(usable) == PODS and all(usable.values())


def _growth(where: Where) -> int:
    """Bytes by which a process grows that watches; in a process of its own."""
    gc.collect()
    before = _resident_bytes()
    source = KubernetesFleet(where, 300.0)
    source.start()
    while not _is_complete(source):
        time.sleep(POLL_S)
    grown = _resident_bytes() - before
    source.stop()
    return grown


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


async def _idle(api: Api, where: Where, pods: list[KubernetesPod]) -> float:
    """Requests per second of a scheduler and of gateways that have nothing to say."""
    source = KubernetesFleet(where, 300.0)
    source.start()
    publishers = [Publisher(own, _still(own), INTERVAL_S, heartbeat_s()) for own in pods]
    tasks = _publishing(publishers, LOOK_S, spread_s=max(HEARTBEAT_S))
    try:
        # As gateways that began at any time: each has said that it is there.
        await asyncio.sleep(max(HEARTBEAT_S) + LOOK_S)
        before, began_s = await _asked(api), time.monotonic()
        await asyncio.sleep(IDLE_S)
        return (await _asked(api) - before) / (time.monotonic() - began_s)
    finally:
        await _end(tasks)
        await asyncio.to_thread(source.stop)


async def _busy(api: Api, pods: list[KubernetesPod]) -> float:
    """Patches for each pod in two seconds, where something changes all the time."""
    publishers = [Publisher(own, _still(own), INTERVAL_S, heartbeat_s()) for own in pods]
    tasks = _publishing(publishers, BUSY_PERIOD_S)
    try:
        await asyncio.sleep(INTERVAL_S)
        before, began_s = await _asked(api, "APPLY"), time.monotonic()
        while time.monotonic() - began_s < BUSY_S:
            for publisher in publishers:
                publisher.changed()
            await asyncio.sleep(BUSY_PERIOD_S)
        return 2.0 * (await _asked(api, "APPLY") - before) / (time.monotonic() - began_s) / len(pods)
    finally:
        await _end(tasks)


def _publishing(publishers: list[Publisher], look_s: float, spread_s: float = 0.0) -> list[asyncio.Task[None]]:
    """As gateways do it, which don't withdraw their reports at the end: that would be one more request for each."""

    async def publish(publisher: Publisher) -> None:
        await asyncio.sleep(random.uniform(0.0, spread_s))
        while True:
            await asyncio.sleep(min(look_s, await publisher.tick()))

    return [asyncio.create_task(publish(publisher)) for publisher in publishers]


def _still(own: KubernetesPod) -> Callable[[], DeviceReport]:
    said = report(own.name, llama=READY)
    return lambda: said


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _asked(api: Api, *verbs: str) -> float:
    """Requests for pods and nodes that the API server has answered or is answering, by others than the cluster's parts.

    Their own are for other subresources, or watches that they have held since the start.
    """
    wanted = verbs or ("APPLY", "LIST", "WATCH")
    return sum(
        sample.value
        for family in text_string_to_metric_families(await api.text("/metrics"))
        if family.name == "apiserver_request"
        for sample in family.samples
        if sample.name == "apiserver_request_total"
        and sample.labels["resource"] in OF_US
        and sample.labels["subresource"] == ""
        and sample.labels["verb"] in wanted
    )
