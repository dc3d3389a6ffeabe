"""How does a pod reach a Service, without the cluster's network and name server?

A Service's cluster address is a loopback address as well: on it this listens, and hands each connection to a ready pod.
The names are in the file that a pod sees as /etc/hosts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.api import Api, Object

HEADLESS = "None"
DOMAINS = ("", ".svc", ".svc.cluster.local")
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_CHUNK_BYTES = 1 << 16
log = logging.getLogger(__name__)


@dataclass
class Services:
    """The Services of the cluster.

    :param pods: the pods of this kubelet, as the API server last told of them.
    :param folder: for the hosts files.
    """

    api: Api
    pods: Callable[[], Iterable[Object]]
    folder: Path
    _known: dict[str, Object] = field(default_factory=dict)
    _listening: dict[str, list[asyncio.Server]] = field(default_factory=dict)
    _hosts: dict[Path, Object] = field(default_factory=dict)
    _turn: int = 0

    async def run(self) -> None:
        async for event in self.api.follow("/api/v1/services"):
            if event.kind == "SYNCED":
                await self._take({service["metadata"]["uid"]: service for service in event.items})
            elif event.kind == "DELETED":
                gone = event.item["metadata"]["uid"]
                await self._take({uid: service for uid, service in self._known.items() if uid != gone})
            else:
                await self._take({**self._known, event.item["metadata"]["uid"]: event.item})

    def hosts(self, pod: Object, pod_ip: str) -> Path:
        """The file that the pod sees as /etc/hosts; its content follows the Services, until ``forget``."""
        path = self.folder / str(pod["metadata"]["uid"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._hosts[path] = {**pod["metadata"], "ip": pod_ip}
        path.write_text(self._hosts_of(self._hosts[path]))
        return path

    def write_hosts(self) -> None:
        for path, pod in self._hosts.items():
            content = self._hosts_of(pod)
            if path.read_text() != content:
                # In place: running pods have this very file, not its name.
                path.write_text(content)

    def forget(self, uid: str) -> None:
        """A pod is gone, and its file is nobody's."""
        path = self.folder / uid
        path.unlink(missing_ok=True)
        self._hosts.pop(path, None)

    async def _take(self, services: dict[str, Object]) -> None:
        for uid, service in self._known.items():
            if services.get(uid, {}).get("spec") != service["spec"]:
                for server in self._listening.pop(uid, ()):
                    server.close()
        self._known = services
        for uid, service in services.items():
            if uid not in self._listening:
                self._listening[uid] = await self._listen(service)
        self.write_hosts()

    async def _listen(self, service: Object) -> list[asyncio.Server]:
        address, servers = service["spec"].get("clusterIP", HEADLESS), []
        # One without a selector has no pods of its own: the API server's, and such as name what is elsewhere.
        if address == HEADLESS or not service["spec"].get("selector"):
            return []
        for port in service["spec"]["ports"]:
            try:
                servers.append(await asyncio.start_server(self._proxy(service, port), address, port["port"]))
            except OSError as error:
                log.warning("service %s: %s", service["metadata"]["name"], error)
        return servers

    def _proxy(self, service: Object, port: Object) -> Connected:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ready = [pod for pod in self._selected(service) if is_ready(pod)]
            with suppress(OSError):
                if ready:
                    self._turn += 1
                    pod = ready[self._turn % len(ready)]
                    connection = await asyncio.open_connection(pod["status"]["podIP"], target_port(pod, port))
                    await asyncio.gather(_copy(reader, connection[1]), _copy(connection[0], writer))
            writer.close()

        return connected

    def _selected(self, service: Object) -> Iterator[Object]:
        selector = (service["spec"].get("selector") or {}).items()
        for pod in self.pods():
            same = pod["metadata"]["namespace"] == service["metadata"]["namespace"]
            if selector and same and selector <= (pod["metadata"].get("labels") or {}).items():
                yield pod

    def _hosts_of(self, of: Object) -> str:
        namespace = of["namespace"]
        lines = ["127.0.0.1 localhost", f"{of['ip']} {of['name']}"]
        for service in self._known.values():
            spec, name, home = service["spec"], service["metadata"]["name"], service["metadata"]["namespace"]
            if spec.get("clusterIP", HEADLESS) != HEADLESS:
                lines.append(_line(spec["clusterIP"], name, home, namespace))
                continue
            for pod in self._selected(service):
                if not pod.get("status", {}).get("podIP"):
                    continue
                if pod["spec"].get("subdomain") == name and pod["spec"].get("hostname"):
                    lines.append(_line(pod["status"]["podIP"], f"{pod['spec']['hostname']}.{name}", home, namespace))
                if is_ready(pod) or spec.get("publishNotReadyAddresses"):
                    lines.append(_line(pod["status"]["podIP"], name, home, namespace))
        return "\n".join(lines) + "\n"


def _line(address: str, name: str, home: str, namespace: str) -> str:
    names = [f"{name}.{home}{domain}" for domain in DOMAINS]
    return " ".join([address, *names, *([name] if home == namespace else [])])


def is_ready(pod: Object) -> bool:
    ready = {"type": "Ready", "status": "True"}.items()
    return any(ready <= condition.items() for condition in pod.get("status", {}).get("conditions", ()))


def target_port(pod: Object, port: Object) -> int:
    """The pod's port behind a Service's.

    :raises OSError: no container of the pod has a port of that name.
    """
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for named_port in container.get("ports", ()):
            if named_port.get("name") == target:
                return int(named_port["containerPort"])
    raise OSError(f"no port {target} in pod {pod['metadata']['name']}")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        # One side is gone: the other must learn of it.
        writer.close()
