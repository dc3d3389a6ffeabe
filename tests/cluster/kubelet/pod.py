"""How does one pod live: volumes, init containers, sidecars, containers, and its end?"""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace

import httpx

from tests.cluster.api import STRATEGIC, Api, ApiError, Object, now
from tests.cluster.kubelet import status
from tests.cluster.kubelet.container import RETRY_S, Container, PodContext
from tests.cluster.kubelet.environment import ConfigError
from tests.cluster.kubelet.nodes import HOST_IP
from tests.cluster.kubelet.services import is_ready

GONE = (404, 409)
REFRESH_S = 30.0
log = logging.getLogger(__name__)


@dataclass
class PodRunner:
    """One pod. ``start`` once; then ``observe`` every change of its object, or ``abandon`` it when it is gone."""

    api: Api
    context: PodContext
    containers: list[Container] = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _conditions: list[Object] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _ending: asyncio.Task[None] | None = None
    _since: str = field(default_factory=now)

    def __post_init__(self) -> None:
        spec = self.context.pod["spec"]
        initial = [
            Container(
                self.context,
                container,
                "sidecar" if container.get("restartPolicy") == "Always" else "init",
                self._changed.set,
            )
            for container in spec.get("initContainers", ())
        ]
        main = [Container(self.context, container, "main", self._changed.set) for container in spec["containers"]]
        self.containers = initial + main

    @property
    def path(self) -> str:
        meta = self.context.pod["metadata"]
        return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"

    def start(self) -> None:
        self._tasks = [asyncio.create_task(work) for work in (self._live(), self._publish_changes(), self._refresh())]
        self._changed.set()

    def observe(self, pod: Object) -> None:
        """The pod's object is another: its labels may be in a volume, its status is not ours, it may have to end."""
        self.context.volumes.pod = pod
        # Whoever watches the nodes takes a silent one's pods for not ready; it is for the kubelet to say otherwise.
        if self._conditions and is_ready(pod) != is_ready({"status": {"conditions": self._conditions}}):
            self._changed.set()
        if pod["metadata"].get("deletionTimestamp") and self._ending is None:
            grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._ending = asyncio.create_task(self._delete(grace_s))

    async def abandon(self, grace_s: float = 0.0) -> None:
        """End its processes and tell nobody; the object is gone, or the kubelet goes."""
        if self._ending:
            self._ending.cancel()
        await self._stop(grace_s)
        await self._finish()

    async def _live(self) -> None:
        try:
            await self._run_all()
        except Exception:
            # Nobody awaits this before the pod's end, and what went wrong here is a fault of the kubelet.
            log.exception("%s is given up", self.path)

    async def _run_all(self) -> None:
        await self._fill()
        running: list[asyncio.Task[None]] = []
        for container in (container for container in self.containers if container.kind != "main"):
            if container.kind == "sidecar":
                running.append(asyncio.create_task(container.run()))
                self._tasks.append(running[-1])
                await container.began.wait()
            else:
                await container.run()
                if container.state.exit_code != 0:
                    break
        else:
            main = [asyncio.create_task(container.run()) for container in self.containers if container.kind == "main"]
            self._tasks += main
            await asyncio.gather(*main)
        grace_s = float(self.context.pod["spec"].get("terminationGracePeriodSeconds", 30))
        await asyncio.gather(*(container.stop(grace_s) for container in self.containers if container.kind == "sidecar"))
        self._changed.set()

    async def _fill(self) -> None:
        while True:
            try:
                return await self.context.volumes.fill()
            except (ConfigError, ApiError, httpx.TransportError, OSError) as error:
                waiting = {"waiting": {"reason": "ContainerCreating", "message": str(error)}}
                for container in self.containers:
                    container.state = replace(container.state, now=waiting)
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            with suppress(ConfigError, ApiError, httpx.TransportError, OSError):
                await self.context.volumes.fill()

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._publish()
            except httpx.TransportError:
                self._changed.set()
                await asyncio.sleep(RETRY_S)
            except ApiError as error:
                if error.code in GONE:
                    return
                log.warning("status of %s not taken: %s", self.path, error)
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def _publish(self) -> None:
        states = [container.state for container in self.containers]
        stopping = any(container.stopping for container in self.containers if container.kind == "main")
        uid = self.context.pod["metadata"]["uid"]
        phase = status.phase(status.policy_of(self.context.pod), states, stopping)
        ended = phase if phase in ("Succeeded", "Failed") else ""
        self._conditions = status.conditions(states, ended, self._conditions, now())
        change: Object = {
            "phase": phase,
            "conditions": self._conditions,
            "hostIP": HOST_IP,
            "hostIPs": [{"ip": HOST_IP}],
            "podIP": self.context.pod_ip,
            # Not merged: a kubelet that comes back gives other addresses.
            "podIPs": [{"$patch": "replace"}, {"ip": self.context.pod_ip}],
            "startTime": self._since,
            "containerStatuses": status.container_statuses([state for state in states if state.kind == "main"], uid),
            "initContainerStatuses": status.container_statuses(
                [state for state in states if state.kind != "main"], uid
            ),
        }
        # The uid: a later pod of that name must not get this one's status.
        await self.api.patch(f"{self.path}/status", {"metadata": {"uid": uid}, "status": change}, STRATEGIC)

    async def _stop(self, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        for kinds in (("init", "main"), ("sidecar",)):
            left_s = max(0.0, deadline - loop.time())
            await asyncio.gather(*(container.stop(left_s) for container in self.containers if container.kind in kinds))

    async def _finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self.context.folder, ignore_errors=True)

    async def _delete(self, grace_s: float) -> None:
        """End the pod's processes, tell how they ended, and remove its object."""
        # Of a pod that had ended before this kubelet came, there is nothing new to say.
        ran_here = bool(self._tasks)
        await self._stop(grace_s)
        await self._finish()
        options: Object = {
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.context.pod["metadata"]["uid"]},
        }
        while True:
            try:
                if ran_here:
                    # Its last word is good to have, and nothing to wait for.
                    with suppress(ApiError):
                        await self._publish()
                await self.api.delete(self.path, options)
                return
            except ApiError as error:
                if error.code in GONE:
                    return
                log.warning("%s not removed: %s", self.path, error)
            except httpx.TransportError as error:
                log.warning("%s not removed: %s", self.path, error)
            await asyncio.sleep(RETRY_S)
