"""Which pods run here? Those that are bound to our nodes, for as long as the API server has them."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.api import Api, Object
from tests.cluster.kubelet import nodes
from tests.cluster.kubelet.claims import Claims
from tests.cluster.kubelet.config import KubeletConfig
from tests.cluster.kubelet.container import PodContext
from tests.cluster.kubelet.environment import Lookup, Machine
from tests.cluster.kubelet.nodes import HOST_IP
from tests.cluster.kubelet.pod import PodRunner
from tests.cluster.kubelet.services import Services
from tests.cluster.kubelet.volumes import Volumes

# What pods are given to end when the kubelet itself ends.
FAREWELL_S = 5.0
log = logging.getLogger(__name__)


@dataclass
class Agent:
    """The kubelet of all configured nodes.

    :param network: the loopback network whose addresses pods get, each its own.
    :param folder: where pods' files and logs lie.
    """

    api: Api
    config: KubeletConfig
    machine: Machine
    network: ipaddress.IPv4Network
    folder: Path
    pods: dict[str, PodRunner] = field(default_factory=dict)
    _seen: dict[str, Object] = field(default_factory=dict)
    _addresses: Iterator[str] = field(init=False)
    _services: Services = field(init=False)

    def __post_init__(self) -> None:
        self._services = Services(self.api, self._seen.values, self.folder / "hosts")
        self._addresses = self._next_address()

    async def run(self) -> None:
        """Until it is cancelled; then it ends its pods' processes."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._services.run())
                group.create_task(Claims(self.api, self.folder / "claims").run())
                for node in self.config.nodes:
                    await nodes.register(self.api, node)
                    group.create_task(nodes.keep_ready(self.api, node))
                    group.create_task(self._follow(node.name))
        finally:
            await asyncio.gather(*(pod.abandon(FAREWELL_S) for pod in self.pods.values()))

    async def _follow(self, node: str) -> None:
        mine: set[str] = set()
        async for event in self.api.follow("/api/v1/pods", fieldSelector=f"spec.nodeName={node}"):
            if event.kind == "SYNCED":
                present = {pod["metadata"]["uid"] for pod in event.items}
                for uid in mine - present:
                    await self._forget(uid)
                mine = present
                for pod in event.items:
                    self._observe(pod)
            elif event.kind == "DELETED":
                mine.discard(event.item["metadata"]["uid"])
                await self._forget(event.item["metadata"]["uid"])
            else:
                mine.add(event.item["metadata"]["uid"])
                self._observe(event.item)

    def _observe(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._seen[uid] = pod
        self._services.write_hosts()
        if uid not in self.pods:
            # A pod that has ended is history, but whoever deletes it waits for its kubelet's word.
            ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            self.pods[uid] = self._runner(pod)
            if not ended:
                log.info("%s/%s starts", pod["metadata"]["namespace"], pod["metadata"]["name"])
                self.pods[uid].start()
        self.pods[uid].observe(pod)

    async def _forget(self, uid: str) -> None:
        self._seen.pop(uid, None)
        self._services.write_hosts()
        if pod := self.pods.pop(uid, None):
            await pod.abandon()
        self._services.forget(uid)

    def _runner(self, pod: Object) -> PodRunner:
        meta = pod["metadata"]
        pod_ip = HOST_IP if pod["spec"].get("hostNetwork") else next(self._addresses)
        folder = self.folder / "pods" / meta["uid"]
        folder.mkdir(parents=True, exist_ok=True)
        volumes = Volumes(pod, pod_ip, folder, self.folder / "claims", self.api)
        lookup = Lookup(self.api, meta["namespace"])
        logs = self.folder / "logs"
        hosts = self._services.hosts(pod, pod_ip)
        context = PodContext(pod, pod_ip, folder, logs, hosts, volumes, lookup, self.machine, self.config)
        return PodRunner(self.api, context)

    def _next_address(self) -> Iterator[str]:
        # Going round: an address that was just left may still have connections.
        while True:
            for address in self.network.hosts():
                if str(address) not in {pod.context.pod_ip for pod in self.pods.values()}:
                    yield str(address)
