"""Does the state source see what becomes of real pods, and does a gateway's apply do what it should?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from airflow_fate.gateway.report.kubernetes_pod import NotPublished
from airflow_fate.kube.api import Api as OurApi
from airflow_fate.kube.api import Gone
from airflow_fate.kube.credentials import find_credentials
from airflow_fate.state.kubernetes.cache import Timing
from airflow_fate.state.kubernetes.source import KubernetesFleet, Where
from airflow_fate.state.source import FleetView
from tests.cluster.api import MERGE, Object
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import PORT, Namespace, identity, server_spec
from tests.cluster.gateways import READY, own_pod, report

POOL = {"pool": "engines"}


async def engine(namespace: Namespace, name: str, **changes: object) -> Object:
    """A pod of the pool, on a node with GPUs."""
    spec = server_spec(nodeSelector={"nvidia.com/gpu.product": "NVIDIA-L40S"}, **changes)
    await namespace.create("pods", {"metadata": {"name": name, "labels": POOL}, "spec": spec})
    return await namespace.ready(name)


@pytest.fixture
async def our_api(cluster: Cluster) -> AsyncIterator[OurApi]:
    async with OurApi(find_credentials(cluster.kubeconfig)) as api:
        yield api


@asynccontextmanager
async def watching(
    folder: Path, cluster: Cluster, namespace: Namespace, timing: Timing | None = None
) -> AsyncIterator[KubernetesFleet]:
    models = folder / "models.yaml"
    models.write_text(yaml.safe_dump({"models": {}}))
    where = Where(models, "pool=engines", PORT, namespace=namespace.name, kubeconfig=cluster.kubeconfig)
    source = KubernetesFleet(where, 300.0, timing)
    source.start()
    try:
        yield source
    finally:
        await asyncio.to_thread(source.stop)


async def seen(source: KubernetesFleet, holds: Callable[[FleetView], bool], timeout_s: float = 30.0) -> FleetView:
    async with asyncio.timeout(timeout_s):
        while not holds(view := source.snapshot()):
            await asyncio.sleep(0.01)
        return view


async def test_pods_appear_change_and_go(
    tmp_path: Path, cluster: Cluster, namespace: Namespace, our_api: OurApi
) -> None:
    async with watching(tmp_path, cluster, namespace) as source:
        pod = await engine(namespace, "one", resources={"limits": {"nvidia.com/gpu": "1"}})
        own = own_pod(our_api, pod)
        await own.write(report("one"))
        view = await seen(source, lambda view: view.usable == {"one": True})
        device = view.fleet.devices["one"]
        assert (device.node, device.gpu, device.memory_bytes) == ("gpu-3", "NVIDIA-L40S", 46068 * 2**20)
        assert view.fleet.nodes["gpu-3"].zone == "zone-b"
        assert view.urls == {"one": f"http://{pod['status']['podIP']}:{PORT}"}

        await own.write(report("one", llama=READY))
        written_s = time.monotonic()
        view = await seen(source, lambda view: "llama" in view.reports["one"].models)
        assert time.monotonic() - written_s < 2.0

        node = "/api/v1/nodes/gpu-3"
        await namespace.api.patch(node, {"spec": {"unschedulable": True}}, MERGE)
        try:
            await seen(source, lambda view: view.usable == {"one": False})
        finally:
            await namespace.api.patch(node, {"spec": {"unschedulable": None}}, MERGE)
        await seen(source, lambda view: view.usable == {"one": True})

        await namespace.api.delete(f"{namespace.path('pods')}/one")
        await seen(source, lambda view: view.fleet.devices == {})


async def test_an_api_server_that_is_away_and_forgets_is_listed_anew(
    tmp_path: Path, cluster: Cluster, namespace: Namespace, our_api: OurApi
) -> None:
    quick = Timing(watch_s=5, silence_s=8.0, pause_s=0.1, longest_pause_s=1.0)
    for name in ("stays", "goes"):
        await own_pod(our_api, await engine(namespace, name)).write(report(name))
    async with watching(tmp_path, cluster, namespace, quick) as source:
        await seen(source, lambda view: view.usable == {"stays": True, "goes": True})
        await asyncio.to_thread(cluster.stop_part, "kube-apiserver")
        away = source.snapshot()
        assert away.usable == {"stays": True, "goes": True}, "the last state is kept"
        cluster.start_part("kube-apiserver")
        await asyncio.to_thread(cluster.wait_for_api)
        await namespace.api.delete(f"{namespace.path('pods')}/goes")
        await seen(source, lambda view: view.usable == {"stays": True})


async def test_a_version_that_the_server_has_forgotten_is_gone(namespace: Namespace, our_api: OurApi) -> None:
    await engine(namespace, "one")
    with pytest.raises(Gone):
        async for _ in our_api.watch(namespace.path("pods"), {}, "1", 5, 10.0):
            pass


async def test_an_apply_says_what_is_true_and_leaves_what_others_say(namespace: Namespace, our_api: OurApi) -> None:
    pod = await engine(namespace, "one")
    own, path = own_pod(our_api, pod), f"{namespace.path('pods')}/one"
    before = (await namespace.api.get(path))["metadata"]["labels"]
    assert before.items() >= POOL.items()
    await own.write(report("one", llama=READY, qwen=READY))
    await own.write(report("one", qwen=READY))
    labels = (await namespace.api.get(path))["metadata"]["labels"]
    assert labels == before | {"fate.airflow/device": "one", "fate.airflow/model.qwen": "ready"}
    await own.remove()
    meta = (await namespace.api.get(path))["metadata"]
    assert meta["labels"] == before
    assert not [key for key in meta.get("annotations", {}) if key.startswith("fate.airflow/")]


async def test_an_apply_never_reaches_another_pod_of_the_same_name(namespace: Namespace, our_api: OurApi) -> None:
    pod = await engine(namespace, "one")
    own = own_pod(our_api, pod)
    await namespace.api.delete(f"{namespace.path('pods')}/one")
    await namespace.gone("one")
    await engine(namespace, "one")
    with pytest.raises(NotPublished, match="uid"):
        await own.write(report("one"))
    await own.remove()
    labels = (await namespace.api.get(f"{namespace.path('pods')}/one"))["metadata"]["labels"]
    assert not [key for key in labels if key.startswith("fate.airflow/")]


RBAC = "apis/rbac.authorization.k8s.io/v1"


async def account(namespace: Namespace, cluster: Cluster, folder: Path, name: str, verbs: list[str]) -> Path:
    """A kubeconfig of a new ServiceAccount that may do ``verbs`` with the namespace's pods, and nothing else."""
    await namespace.create("serviceaccounts", {"metadata": {"name": name}})
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]
    await namespace.create("roles", {"metadata": {"name": name}, "rules": rules}, RBAC)
    binding = {
        "metadata": {"name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
    }
    await namespace.create("rolebindings", binding, RBAC)
    return await identity(namespace, cluster, folder, name)


async def test_least_rights_are_enough_and_a_revoked_token_leaves_the_last_state(
    tmp_path: Path, cluster: Cluster, namespace: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models.yaml").write_text("models: {}")
    pod = await engine(namespace, "one")
    async with OurApi(find_credentials(await account(namespace, cluster, tmp_path, "gateway", ["patch"]))) as api:
        await own_pod(api, pod).write(report("one"))
    reader = await account(namespace, cluster, tmp_path, "reader", ["list", "watch"])
    where = Where(tmp_path / "models.yaml", "pool=engines", PORT, namespace=namespace.name, kubeconfig=reader)
    source = KubernetesFleet(where, 300.0, Timing(watch_s=2, silence_s=5.0, pause_s=0.1, longest_pause_s=0.5))
    source.start()
    try:
        await seen(source, lambda view: view.usable == {"one": True})
        assert caplog.text.count("nodes can't be watched") == 1, "it may not see nodes"
        await namespace.api.delete(f"{namespace.path('serviceaccounts')}/reader")
        async with asyncio.timeout(30):
            while "pods can't be watched" not in caplog.text:
                await asyncio.sleep(0.05)
        assert "401" in caplog.text
        assert source.snapshot().usable == {"one": True}
    finally:
        await asyncio.to_thread(source.stop)
