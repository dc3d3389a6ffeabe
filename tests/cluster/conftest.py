"""One cluster for all tests of this folder, and a namespace for each test."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.api import STRATEGIC, Api, Object
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet.services import is_ready
from tests.servers import postgres, redis

__all__ = ["postgres", "redis"]

CHART = Path(__file__).parents[2] / "helm" / "airflow-fate"
SERVER = Path(__file__).parent / "server.py"
APP = "/srv/test-app"
PORT = 8080
Helm = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    """As the cluster's administrator."""
    async with Api.of(cluster.kubeconfig) as api:
        yield api


@dataclass(frozen=True)
class Namespace:
    """A namespace of the test's own, and short ways to what tests do in it."""

    api: Api
    name: str

    def path(self, kind: str, group: str = "api/v1") -> str:
        return f"/{group}/namespaces/{self.name}/{kind}"

    async def create(self, kind: str, item: Object, group: str = "api/v1") -> Object:
        return await self.api.create(self.path(kind, group), item)

    async def pod(self, name: str, **changes: object) -> Object:
        """Make a pod that runs ``server.py``; ``changes`` are fields of its spec or its container."""
        return await self.create("pods", {"metadata": {"name": name}, "spec": server_spec(**changes)})

    async def ready(self, name: str, timeout_s: float = 30.0) -> Object:
        return await self.until(name, is_ready, timeout_s)

    async def all_ready(self, pods: int, timeout_s: float, **query: str) -> None:
        """Wait until so many pods that match the query are, or have been, ready."""
        ready: set[str] = set()
        async with asyncio.timeout(timeout_s), aclosing(self.api.follow(self.path("pods"), **query)) as events:
            async for event in events:
                ready |= {pod["metadata"]["name"] for pod in event.items or (event.item,) if is_ready(pod)}
                if len(ready) >= pods:
                    return

    async def ended(self, name: str, timeout_s: float = 30.0) -> Object:
        """Wait until the pod has succeeded or failed."""
        return await self.until(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"), timeout_s)

    async def until(self, name: str, holds: Callable[[Object], bool], timeout_s: float = 30.0) -> Object:
        """Wait until there is such a pod and ``holds`` is true of it."""
        reached = await self.api.until(self.path("pods"), name, lambda pod: pod is not None and holds(pod), timeout_s)
        assert reached
        return reached

    async def delete(self, name: str) -> None:
        """Ask for the pod's end; ``gone`` waits for it."""
        await self.api.delete(f"{self.path('pods')}/{name}")

    async def gone(self, name: str, timeout_s: float = 30.0) -> None:
        await self.api.until(self.path("pods"), name, lambda pod: pod is None, timeout_s)

    async def ask(self, pod: Object, path: str) -> str:
        """What the pod's server answers."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return (await client.get(f"http://{pod['status']['podIP']}:{PORT}/{path}")).text

    async def scale(self, deployment: str, replicas: int) -> None:
        path = f"{self.path('deployments', 'apis/apps/v1')}/{deployment}"
        await self.api.patch(path, {"spec": {"replicas": replicas}}, STRATEGIC)


@asynccontextmanager
async def new_namespace(api: Api) -> AsyncIterator[Namespace]:
    name = f"test-{secrets.token_hex(4)}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    namespace = Namespace(api, name)
    await namespace.create("configmaps", {"metadata": {"name": "server"}, "data": {"server.py": SERVER.read_text()}})
    # Without it no pod can be made; the controller manager makes it soon.
    await api.until(namespace.path("serviceaccounts"), "default", lambda account: account is not None)
    yield namespace
    await api.delete(f"/api/v1/namespaces/{name}")


def said_by_pods(cluster: Cluster, namespace: Namespace) -> str:
    """The last lines of each container of the namespace."""
    logs = sorted((cluster.folder / "kubelet" / "logs").glob(f"{namespace.name}_*.log"))
    return "\n".join("\n".join([log.stem, *log.read_text(errors="replace").splitlines()[-20:]]) for log in logs)


def helm_in(cluster: Cluster, namespace: Namespace) -> Helm:
    """Runs helm in the namespace; raises with what it and the namespace's pods said where it fails."""

    async def run(*arguments: str, values: dict[str, Any] | None = None) -> str:
        process = await asyncio.create_subprocess_exec(
            cluster.binaries["helm"],
            *arguments,
            *(("--values", "-") if values is not None else ()),
            f"--kubeconfig={cluster.kubeconfig}",
            f"--namespace={namespace.name}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate(json.dumps(values).encode())
        assert process.returncode == 0, out.decode() + said_by_pods(cluster, namespace)
        return out.decode()

    return run


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[Namespace]:
    async with new_namespace(api) as namespace:
        yield namespace


@pytest.fixture
def helm(cluster: Cluster, namespace: Namespace) -> Helm:
    return helm_in(cluster, namespace)


async def identity(namespace: Namespace, cluster: Cluster, folder: Path, account: str) -> Path:
    """A kubeconfig, in ``folder``, of a ServiceAccount of the namespace."""
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = await namespace.api.create(f"{namespace.path('serviceaccounts')}/{account}/token", asked)
    (folder / f"{account}.token").write_text(token["status"]["token"])
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"][0]["user"] = {"tokenFile": f"{account}.token"}
    path = folder / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


def server_spec(**changes: object) -> Object:
    """The spec of a pod that runs ``server.py`` on port 8080 of its own address."""
    container: Object = {
        "name": "main",
        "image": "python",
        "command": ["python", f"{APP}/server.py"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    spec: Object = {"containers": [container], "terminationGracePeriodSeconds": 5}
    of_spec = {"restartPolicy", "initContainers", "serviceAccountName", "volumes", "terminationGracePeriodSeconds"}
    of_spec |= {"nodeSelector", "securityContext"}
    for field, value in changes.items():
        (spec if field in of_spec else container)[field] = value
    mounts = [*container.get("volumeMounts", ()), {"name": "server", "mountPath": APP}]
    container["volumeMounts"] = mounts
    spec["volumes"] = [*spec.get("volumes", ()), {"name": "server", "configMap": {"name": "server"}}]
    return spec


def main_of(pod: Object) -> Object:
    """The status of the pod's container ``main``, as of one that never ran while there is none."""
    status: Object = next(
        (status for status in pod["status"].get("containerStatuses", ()) if status["name"] == "main"), {}
    )
    return status or {"restartCount": 0, "ready": False, "started": False}
