"""Do Kubernetes' own controllers and scheduler get on with the kubelet's pods, and with kwok's?"""

from __future__ import annotations

from tests.cluster.api import Api, Object
from tests.cluster.conftest import Namespace, server_spec

APPS, BATCH = "apis/apps/v1", "apis/batch/v1"


async def test_a_job_completes(namespace: Namespace) -> None:
    job = await _job(namespace, "counting", "exit 0")
    assert job["status"]["succeeded"] == 1
    assert _condition(job) == "Complete"


async def test_a_job_whose_pods_fail_fails_after_its_tries(namespace: Namespace) -> None:
    job = await _job(namespace, "failing", "exit 1")
    assert job["status"]["failed"] == 2
    assert _condition(job) == "Failed"


async def test_a_deployment_scales_up_and_down(namespace: Namespace) -> None:
    await namespace.create("deployments", _deployment("web", 1), APPS)
    for replicas in (1, 3, 0):
        await namespace.scale("web", replicas)
        await _available(namespace, "web", replicas)
    # Not only counted: no pod is left.
    pods = await namespace.api.get(namespace.path("pods"), labelSelector="app=web")
    for pod in pods["items"]:
        await namespace.gone(pod["metadata"]["name"])


async def test_a_deployment_replaces_its_pods_when_it_changes(namespace: Namespace) -> None:
    await namespace.create("deployments", _deployment("web", 1), APPS)
    await _available(namespace, "web", 1)
    (before,) = (await namespace.api.get(namespace.path("pods"), labelSelector="app=web"))["items"]
    changed = _deployment("web", 1)
    changed["spec"]["template"]["metadata"]["annotations"] = {"changed": "yes"}
    await namespace.api.patch(f"{namespace.path('deployments', APPS)}/web", changed)
    await namespace.gone(before["metadata"]["name"])
    await _available(namespace, "web", 1)


async def test_gpus_are_counted(namespace: Namespace) -> None:
    gpus = {"limits": {"nvidia.com/gpu": "4"}}
    wanted = {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    for name in ("fits", "too-many"):
        await namespace.pod(name, resources=gpus, nodeSelector=wanted)
        if name == "fits":
            assert (await namespace.ready(name))["spec"]["nodeName"] == "gpu-3"
    refused = await namespace.until("too-many", lambda pod: "Insufficient nvidia.com/gpu" in str(pod["status"]))
    assert "nodeName" not in refused["spec"]


async def test_simulated_nodes_run_simulated_pods_beside_real_ones(api: Api, namespace: Namespace) -> None:
    name = f"simulated-{namespace.name}"
    labels = {"type": "kwok", "kubernetes.io/hostname": name}
    taint = {"key": "simulated", "value": "yes", "effect": "NoSchedule"}
    capacity = {"cpu": "8", "memory": "64Gi", "pods": "100"}
    node = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [taint]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
    await api.create("/api/v1/nodes", node)
    spec = {
        "containers": [{"name": "main", "image": "none"}],
        "nodeSelector": {"kubernetes.io/hostname": name},
        "tolerations": [{"key": "simulated", "operator": "Exists"}],
    }
    await namespace.create("pods", {"metadata": {"name": "played"}, "spec": spec})
    pod = await namespace.ready("played")
    assert pod["status"]["podIP"].startswith("127.")
    await namespace.delete("played")
    await namespace.gone("played")
    await api.delete(f"/api/v1/nodes/{name}")


def _deployment(name: str, replicas: int) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": server_spec(terminationGracePeriodSeconds=2)}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


async def _available(namespace: Namespace, name: str, replicas: int) -> None:
    def holds(manifest: Object | None) -> bool:
        status = (manifest or {}).get("status", {})
        observed = status.get("observedGeneration", 0) >= (manifest or {}).get("metadata", {}).get("generation", 1)
        counts = [status.get(key, 0) for key in ("availableReplicas", "replicas", "updatedReplicas")]
        return observed and counts == [replicas] * 3

    await namespace.api.until(namespace.path("deployments", APPS), name, holds)


async def _job(namespace: Namespace, name: str, script: str) -> Object:
    """A job with one more try, when it has ended."""
    container = {"name": "main", "image": "sh", "command": ["sh", "-c", script]}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    spec = {"backoffLimit": 1, "template": template}
    await namespace.create("jobs", {"metadata": {"name": name}, "spec": spec}, BATCH)
    jobs = namespace.path("jobs", BATCH)
    # The second try comes 10 s after the first.
    ended_job = await namespace.api.until(jobs, name, lambda job: _condition(job) in ("Complete", "Failed"), 60)
    assert ended_job
    return ended_job


def _condition(job: Object | None) -> str:
    true_conditions = [
        condition["type"]
        for condition in (job or {}).get("status", {}).get("conditions", ())
        if condition["status"] == "True"
    ]
    return str(true_conditions[-1]) if true_conditions else ""
