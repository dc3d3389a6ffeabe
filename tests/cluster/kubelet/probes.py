"""Is a container started, ready, alive, as its probes say?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from tests.cluster.api import Object
from tests.cluster.kubelet.environment import ConfigError

KINDS = ("httpGet", "tcpSocket", "exec")
Execute = Callable[[tuple[str, ...]], Awaitable[int]]


@dataclass(frozen=True)
class Probe:
    """One probe of a container; its numbers as Kubernetes defines them."""

    spec: Object
    pod_ip: str
    ports: dict[str, int]
    execute: Execute

    def __post_init__(self) -> None:
        """:raises ConfigError: for a kind that this kubelet does not play, or a port that has no such name."""
        if not any(kind in self.spec for kind in KINDS):
            raise ConfigError(f"this kubelet plays probes of {', '.join(KINDS)} only")
        for kind in KINDS[:2]:
            if kind in self.spec:
                self._port(self.spec[kind])

    async def once(self) -> bool:
        timeout_s = float(self.spec.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask()
        except (TimeoutError, OSError, httpx.HTTPError):
            return False

    async def _ask(self) -> bool:
        if request := self.spec.get("httpGet"):
            host = request.get("host") or self.pod_ip
            url = f"{request.get('scheme', 'HTTP').lower()}://{host}:{self._port(request)}{request.get('path', '/')}"
            headers = {header["name"]: header["value"] for header in request.get("httpHeaders", ())}
            # A probe takes whatever certificate there is.
            async with httpx.AsyncClient(verify=False, trust_env=False, timeout=None) as client:
                answer = await client.get(url, headers=headers)
            return 200 <= answer.status_code < 400
        if request := self.spec.get("tcpSocket"):
            _, writer = await asyncio.open_connection(request.get("host") or self.pod_ip, self._port(request))
            writer.close()
            return True
        return await self.execute(tuple(self.spec["exec"]["command"])) == 0

    def _port(self, request: Object) -> int:
        port = request["port"]
        if isinstance(port, int):
            return port
        if port not in self.ports:
            raise ConfigError(f"no port is named {port}")
        return self.ports[port]

    async def until(self, wanted: bool) -> None:
        """Ask, in the probe's period, until it says ``wanted`` as often in a row as its threshold for that is."""
        threshold = self.spec.get("successThreshold", 1) if wanted else self.spec.get("failureThreshold", 3)
        row = 0
        while True:
            row = row + 1 if await self.once() is wanted else 0
            if row >= threshold:
                return
            await self.pause()

    async def settle(self) -> bool:
        """Ask until either threshold is reached; what it then says."""
        failures = successes = 0
        while True:
            good = await self.once()
            successes, failures = (successes + 1, 0) if good else (0, failures + 1)
            if successes >= self.spec.get("successThreshold", 1):
                return True
            if failures >= self.spec.get("failureThreshold", 3):
                return False
            await self.pause()

    async def pause(self) -> None:
        await asyncio.sleep(float(self.spec.get("periodSeconds", 10)))

    async def delay(self) -> None:
        await asyncio.sleep(float(self.spec.get("initialDelaySeconds", 0)))
