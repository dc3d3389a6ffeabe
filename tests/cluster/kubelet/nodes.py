"""How do the kubelet's nodes come to be in the cluster, and stay ready?"""

from __future__ import annotations

import asyncio
import datetime
import logging

import httpx

from tests.cluster.api import Api, ApiError, Object, now
from tests.cluster.kubelet.config import NodeConfig

HOST_IP = "127.0.0.1"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_S = 40
RENEW_S = 10.0
CONFLICT = 409
log = logging.getLogger(__name__)


def node(config: NodeConfig, at: str) -> Object:
    """The Node object, ready at the time ``at`` (RFC 3339)."""
    usual = {"kubernetes.io/hostname": config.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    pressures = ("MemoryPressure", "DiskPressure", "PIDPressure")
    states = [("Ready", "True"), *((kind, "False") for kind in pressures)]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.name, "labels": {**usual, **config.labels}},
        "status": {
            "capacity": dict(config.capacity),
            "allocatable": dict(config.capacity),
            "addresses": [{"type": "InternalIP", "address": HOST_IP}, {"type": "Hostname", "address": config.name}],
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": "Played",
                    "lastHeartbeatTime": at,
                    "lastTransitionTime": at,
                }
                for kind, status in states
            ],
            "nodeInfo": {"operatingSystem": "linux", "architecture": "amd64", "kubeletVersion": "process"}
            | dict.fromkeys(
                ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion"), "process"
            )
            | {"kubeProxyVersion": ""},
        },
    }


async def register(api: Api, config: NodeConfig) -> None:
    """Makes the node; one of that name is replaced, for its GPUs may be others."""
    document = node(config, now())
    try:
        await api.create("/api/v1/nodes", document)
    except ApiError as error:
        if error.code != CONFLICT:
            raise
        await api.apply(f"/api/v1/nodes/{config.name}", document)
        await api.apply(f"/api/v1/nodes/{config.name}/status", document)


async def keep_ready(api: Api, config: NodeConfig) -> None:
    """Renews the node's lease, for ever: without it the controller manager takes the node for dead.

    Once it has done so, it is for the kubelet to say that the node lives.
    """
    path = f"/api/v1/nodes/{config.name}"
    while True:
        renewed_at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": config.name},
            "spec": {"holderIdentity": config.name, "leaseDurationSeconds": LEASE_S, "renewTime": renewed_at},
        }
        try:
            await api.apply(f"{LEASES}/{config.name}", lease)
            conditions = (await api.get(path))["status"].get("conditions", ())
            if any(condition["type"] == "Ready" and condition["status"] != "True" for condition in conditions):
                await api.apply(f"{path}/status", node(config, now()))
        except (httpx.TransportError, ApiError) as error:
            log.warning("lease of %s not renewed: %s", config.name, error)
            await asyncio.sleep(1)
            continue
        await asyncio.sleep(RENEW_S)
