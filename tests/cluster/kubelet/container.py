"""How does one container live: started, probed, started again, stopped?"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from tests.cluster.api import ApiError, Object, now
from tests.cluster.kubelet import environment
from tests.cluster.kubelet.config import KubeletConfig
from tests.cluster.kubelet.environment import ConfigError, Lookup, Machine
from tests.cluster.kubelet.launching import send, start
from tests.cluster.kubelet.probes import Probe
from tests.cluster.kubelet.sandbox import NO_SANDBOX, Launch, Mount
from tests.cluster.kubelet.status import ContainerState, Kind, policy_of, restarts
from tests.cluster.kubelet.users import passwd
from tests.cluster.kubelet.volumes import Volumes

# The first restart is at once, as the kubelet's; the pauses after it are a tenth of the kubelet's.
BACKOFF_S = 1.0
BACKOFF_MAX_S = 30.0
# Who ran this long is forgiven.
BACKOFF_RESET_S = 60.0
RETRY_S = 0.5


@dataclass(frozen=True)
class PodContext:
    """What all containers of a pod share.

    :param folder: the pod's own.
    :param logs: where its containers' output goes.
    :param hosts: what they see as /etc/hosts.
    """

    pod: Object
    pod_ip: str
    folder: Path
    logs: Path
    hosts: Path
    volumes: Volumes
    lookup: Lookup
    machine: Machine
    config: KubeletConfig


@dataclass
class Container:
    """:param changed: called whenever ``state`` is another."""

    context: PodContext
    spec: Object
    kind: Kind
    changed: Callable[[], None]
    state: ContainerState = field(init=False)
    stopping: bool = False
    began: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _launched: Launch | None = None

    def __post_init__(self) -> None:
        self.state = ContainerState(self.spec["name"], self.spec.get("image", ""), self.kind)

    async def run(self) -> None:
        """Runs the container, again and again as its pod's policy says; returns when it has ended for good."""
        backoff_s = 0.0
        while not self.stopping:
            try:
                launch, probes = await self._prepare(), self._probes()
            except (ConfigError, ApiError, httpx.TransportError, OSError) as error:
                reason = "CreateContainerConfigError"
                self._set(now={"waiting": {"reason": reason, "message": str(error)}})
                await asyncio.sleep(RETRY_S)
                continue
            began = time.monotonic()
            code = await self._once(launch, probes)
            if self.stopping or not restarts(policy_of(self.context.pod), self.kind, code):
                return
            if time.monotonic() - began > BACKOFF_RESET_S:
                backoff_s = 0.0
            waiting = {"reason": "CrashLoopBackOff", "message": f"starts again in {backoff_s:.0f} s"}
            self._set(now={"waiting": waiting}, last=self.state.now, restarts=self.state.restarts + 1)
            await asyncio.sleep(backoff_s)
            backoff_s = min(BACKOFF_MAX_S, 2 * backoff_s or BACKOFF_S)

    async def stop(self, grace_s: float) -> None:
        """Its preStop hook, SIGTERM, and SIGKILL after ``grace_s`` seconds in all. It will not start again."""
        self.stopping = True
        process = self._process
        if process is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._pre_stop()
                send(process, signal.SIGTERM)
                await process.wait()
        send(process, signal.SIGKILL)
        await process.wait()

    async def execute(self, command: tuple[str, ...]) -> int:
        """Another command with the same files and environment; its exit status."""
        assert self._launched, "nothing runs in a container that never started"
        if self._process is None:
            return NO_SANDBOX
        launch = replace(self._launched, command=command, beside=self._process.pid)
        process = (await start(launch, self._log)).process
        try:
            return await process.wait()
        except asyncio.CancelledError:
            send(process, signal.SIGKILL)
            raise

    async def _prepare(self) -> Launch:
        context, spec = self.context, self.spec
        if "postStart" in spec.get("lifecycle", {}):
            raise ConfigError("this kubelet plays no postStart hooks")
        home = context.folder / "home" / spec["name"]
        root = context.folder / "root" / spec["name"]
        for folder in (home, root):
            folder.mkdir(parents=True, exist_ok=True)
        base = context.machine.environment(context.pod, context.pod_ip, home)
        variables = await environment.resolve(context.pod, spec, context.pod_ip, base, context.lookup)
        entry = spec.get("command") or context.config.entrypoint(spec.get("image", ""))
        if not entry:
            raise ConfigError(f"no command, and nobody said what image {spec.get('image')} runs by itself")
        words = [*entry, *spec.get("args", ())]
        command = [environment.at_pod(environment.expand(word, variables), context.pod_ip) for word in words]
        security: Object = {**context.pod["spec"].get("securityContext", {}), **spec.get("securityContext", {})}
        user, group = security.get("runAsUser", 0), security.get("runAsGroup", 0)
        known_users = context.folder / f"{spec['name']}.passwd"
        known_users.write_text(passwd(user, group, home))
        always = (Mount(str(context.hosts), "/etc/hosts", True), Mount(str(known_users), "/etc/passwd", True))
        mounts = (*always, *context.volumes.mounts(spec))
        # Volumes at /tmp are common, and all this may lie there.
        keep = (*context.machine.keep, str(home))
        folder = spec.get("workingDir") or str(home)
        # As long as a host's name may be, and as the kubelet shortens it.
        host = context.pod["metadata"]["name"][:63]
        return Launch(str(root), tuple(command), variables, folder, mounts, keep, host, user, group)

    def _probes(self) -> dict[str, Probe]:
        """By its purpose: ``startup``, ``readiness``, ``liveness``.

        :raises ConfigError: for one that can't be played.
        """
        named = {kind: self.spec.get(f"{kind}Probe") for kind in ("startup", "readiness", "liveness")}
        return {kind: self._probe(spec) for kind, spec in named.items() if spec}

    def _probe(self, spec: Object) -> Probe:
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports", ()) if "name" in port}
        return Probe(spec, self.context.pod_ip, ports, self.execute)

    async def _once(self, launch: Launch, probes: dict[str, Probe]) -> int:
        self._launched = launch
        started = await start(launch, self._log)
        self._process = process = started.process
        started_at = now()
        if started.refused:
            return self._end(await process.wait(), started_at, {"reason": "StartError", "message": started.refused})
        self._set(
            now={"running": {"startedAt": started_at}},
            started="startup" not in probes,
            ready="startup" not in probes and "readiness" not in probes,
        )
        watching = asyncio.create_task(self._watch(process, probes))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            send(process, signal.SIGKILL)
            raise
        finally:
            watching.cancel()
            self._process = None
        code = 128 - code if code < 0 else code
        return self._end(code, started_at, {"reason": "Error" if code else "Completed"})

    def _end(self, code: int, started_at: str, more: Object) -> int:
        self._process = None
        ended = {"exitCode": code, "startedAt": started_at, "finishedAt": now(), **more}
        self._set(now={"terminated": ended}, started=False, ready=False)
        return code

    @property
    def _log(self) -> Path:
        meta = self.context.pod["metadata"]
        return self.context.logs / f"{meta['namespace']}_{meta['name']}_{self.spec['name']}.log"

    async def _watch(self, process: asyncio.subprocess.Process, probes: dict[str, Probe]) -> None:
        if startup := probes.get("startup"):
            await startup.delay()
            if not await startup.settle():
                return await self._restart(process, startup)
            self._set(started=True, ready="readiness" not in probes)
        async with asyncio.TaskGroup() as group:
            if readiness := probes.get("readiness"):
                group.create_task(self._follow_readiness(readiness))
            if liveness := probes.get("liveness"):
                group.create_task(self._follow_liveness(process, liveness))
        return None

    async def _follow_readiness(self, probe: Probe) -> None:
        await probe.delay()
        while True:
            await probe.until(not self.state.ready)
            self._set(ready=not self.state.ready)
            await probe.pause()

    async def _follow_liveness(self, process: asyncio.subprocess.Process, probe: Probe) -> None:
        await probe.delay()
        await probe.until(False)
        await self._restart(process, probe)

    async def _restart(self, process: asyncio.subprocess.Process, probe: Probe) -> None:
        usual = self.context.pod["spec"].get("terminationGracePeriodSeconds", 30)
        send(process, signal.SIGTERM)
        await asyncio.sleep(float(probe.spec.get("terminationGracePeriodSeconds", usual)))
        # The end of the process cancels this task; it has not ended.
        send(process, signal.SIGKILL)

    async def _pre_stop(self) -> None:
        hook = self.spec.get("lifecycle", {}).get("preStop", {})
        if command := hook.get("exec"):
            await self.execute(tuple(command["command"]))
        elif seconds := hook.get("sleep"):
            await asyncio.sleep(float(seconds["seconds"]))
        elif request := hook.get("httpGet"):
            # As long as the grace lasts, which the caller bounds.
            await self._probe({"httpGet": request, "timeoutSeconds": 3600}).once()

    def _set(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        if self.state.started:
            self.began.set()
        self.changed()
