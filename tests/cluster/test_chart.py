"""The chart on a cluster: what it installs runs, under the rights that it grants, and goes without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cluster.api import MERGE, Api, ApiError, Object
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import CHART, Helm, Namespace

PLAY = "app.kubernetes.io/component=engine"
SPEEDS = {"loadGbPerS": {"disk": 2, "host": 8}, "prefillTps": {"any": 9000}, "decodeTps": {"any": 900}}
VALUES: dict[str, Any] = {
    "models": {"small": {"weightsGb": 1, **SPEEDS}},
    "pools": {"play": {"models": ["small"], "driver": "simulated", "gpus": 1, "replicas": 2}},
    "airflow": {"enabled": False},
    "signingKey": {"keepOnUninstall": False},
}


async def test_install_test_upgrade_rollback_uninstall(helm: Helm, api: Api, namespace: Namespace) -> None:
    notes = await helm("install", "r", str(CHART), "--wait", "--timeout=120s", values=VALUES)
    stated = (await api.get(f"{namespace.path('configmaps')}/r-fate-official-airflow"))["data"]["values.yaml"]
    assert stated.strip() in notes
    assert yaml.safe_load(stated)["config"]["fate"]["namespace"] == namespace.name
    assert "Phase:          Succeeded" in await helm("test", "r", "--timeout=60s")

    key = await signing_key(api, namespace)
    fewer = {**VALUES, "pools": {"play": {**VALUES["pools"]["play"], "replicas": 1, "maxSeqs": 2}}}
    await helm("upgrade", "r", str(CHART), "--wait", "--timeout=120s", values=fewer)
    await becomes(api, namespace, 1)
    assert await signing_key(api, namespace) == key
    await helm("rollback", "r", "1", "--wait", "--timeout=120s")
    await becomes(api, namespace, 2)
    assert await signing_key(api, namespace) == key

    await helm("uninstall", "r", "--wait", "--timeout=120s")
    # Helm waits for what it made; pods follow their Deployments.
    for pod in (await api.get(namespace.path("pods")))["items"]:
        await namespace.gone(pod["metadata"]["name"])
    assert await left(api, namespace) == []


async def test_a_gateway_may_patch_its_own_pod_and_no_other(
    helm: Helm, cluster: Cluster, api: Api, namespace: Namespace
) -> None:
    await helm("install", "r", str(CHART), "--wait", "--timeout=120s", values=VALUES)
    mine, other = (await api.get(namespace.path("pods"), labelSelector=PLAY))["items"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": mine["metadata"]["name"], "uid": mine["metadata"]["uid"]}
    token = await api.create(
        f"{namespace.path('serviceaccounts')}/r-fate-gateway/token", {"spec": {"boundObjectRef": bound}}
    )
    change = {"metadata": {"labels": {"fate.airflow/model.small": "ready"}}}
    async with Api(cluster.server, cluster.keys.authority, token["status"]["token"]) as gateway:
        await gateway.patch(path_of(mine), change, MERGE)
        with pytest.raises(ApiError, match="a gateway may change its own pod only"):
            await gateway.patch(path_of(other), change, MERGE)
        with pytest.raises(ApiError, match="cannot list resource"):
            await gateway.get(namespace.path("pods"))
    await helm("uninstall", "r", "--wait", "--timeout=120s")


def path_of(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


async def signing_key(api: Api, namespace: Namespace) -> str:
    key: str = (await api.get(f"{namespace.path('secrets')}/r-fate-gateways"))["data"]["gateway-secret"]
    return key


async def becomes(api: Api, namespace: Namespace, replicas: int) -> None:
    """Wait for so many ready pods of the newest settings, and no others: helm waits for fewer."""

    def holds(deployment: Object | None) -> bool:
        assert deployment is not None
        status = deployment["status"]
        current = status.get("observedGeneration") == deployment["metadata"]["generation"]
        counts = {status.get(key, 0) for key in ("replicas", "readyReplicas", "updatedReplicas")}
        return current and counts == {replicas}

    await api.until(namespace.path("deployments", "apis/apps/v1"), "r-fate-pool-play", holds, 60)


async def left(api: Api, namespace: Namespace) -> list[str]:
    """What still bears the release's name, in its namespace and in the cluster."""
    rights, admission = "apis/rbac.authorization.k8s.io/v1", "apis/admissionregistration.k8s.io/v1"
    paths = [namespace.path(kind) for kind in ("secrets", "configmaps", "serviceaccounts", "pods", "services")]
    paths += [namespace.path(kind, rights) for kind in ("roles", "rolebindings")]
    paths += [namespace.path(kind, "apis/apps/v1") for kind in ("deployments", "replicasets", "statefulsets")]
    paths += [namespace.path("networkpolicies", "apis/networking.k8s.io/v1")]
    paths += [namespace.path("poddisruptionbudgets", "apis/policy/v1"), namespace.path("jobs", "apis/batch/v1")]
    paths += [f"/{rights}/clusterroles", f"/{rights}/clusterrolebindings"]
    paths += [f"/{admission}/{kind}" for kind in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")]
    manifests = [(path, manifest) for path in paths for manifest in (await api.get(path))["items"]]
    return [
        f"{path}/{manifest['metadata']['name']}"
        for path, manifest in manifests
        if manifest["metadata"]["name"].startswith("r-fate")
    ]
