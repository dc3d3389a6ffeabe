"""How does the scheduler's heartbeat come by the newest state of the cluster? A thread watches; asking is a look."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from airflow_fate.cluster import without_speeds
from airflow_fate.kube.api import Api, ApiTrouble
from airflow_fate.kube.credentials import Credentials, CredentialsError, find_credentials
from airflow_fate.messages import DEFAULT_LABEL_PREFIX
from airflow_fate.state.kubernetes.cache import Cache, Timing
from airflow_fate.state.kubernetes.fleet import Assembly, assemble
from airflow_fate.state.kubernetes.known import Nodes, Pods
from airflow_fate.state.kubernetes.models import ModelsFile
from airflow_fate.state.kubernetes.pods import read_pod
from airflow_fate.state.kubernetes.pool import Chosen, find_pool
from airflow_fate.state.source import FleetView

COALESCE_S = 0.1
"""Changes of so long are taken together."""
LOOK_S = 1.0
"""How often the file of models is looked at."""
RETRY_S = 5.0
STOP_S = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Where:
    """Which pods are the fleet.

    :param models_file: the models, as in section ``models`` of a fleet file.
    :param namespace: empty for our own.
    :param selector: a label selector.
    :param accounts: ServiceAccounts whose pods count; empty for any.
    :param gateway_port: where the gateways listen.
    :param inference_pool: an InferencePool that says selector and port instead; empty for none.
    :param kubeconfig: None in a cluster.
    """

    models_file: Path
    selector: str
    gateway_port: int
    namespace: str = ""
    accounts: frozenset[str] = frozenset()
    label_prefix: str = DEFAULT_LABEL_PREFIX
    kubeconfig: Path | None = None
    inference_pool: str = ""


class _PoolChanged(Exception):
    """The InferencePool chooses other pods now."""


@dataclass(frozen=True, slots=True)
class _Known:
    assembly: Assembly = field(default_factory=Assembly)
    seen_s: dict[str, float] = field(default_factory=dict)
    version: int = 0


class KubernetesFleet:
    """The state source of a fleet on Kubernetes.

    :param stale_after_s: a device whose gateway was silent for longer is unusable.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        where: Where,
        stale_after_s: float,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = where
        self._stale_after_s = stale_after_s
        self._timing = timing or Timing()
        self._clock = clock
        self._models = ModelsFile(where.models_file)
        self._known = _Known()
        self._usable: dict[str, bool] = {}
        self._unmeasured: frozenset[str] = frozenset()
        self._usable_changes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch; the API server need not be there yet."""
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._work, args=(self._loop, self._task), name="fate-watch")
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        if self._thread and self._loop and self._task and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(STOP_S)

    def snapshot(self) -> FleetView:
        """What is known now; a pod keeps its last state while it ages."""
        known, now_s = self._known, self._clock()
        assembly = known.assembly
        seen_age_s = {
            name: max(0.0, now_s - known.seen_s.get(pod, now_s)) for name, pod in assembly.heartbeat_pods.items()
        }
        usable = {
            name: healthy and seen_age_s[name] <= self._stale_after_s for name, healthy in assembly.healthy.items()
        }
        if usable != self._usable:
            self._usable = usable
            self._usable_changes += 1
        return FleetView(
            fleet=assembly.fleet,
            reports=assembly.reports,
            urls=assembly.urls,
            seen_age_s=seen_age_s,
            usable=usable,
            grouped=assembly.grouped,
            version=known.version + self._usable_changes,
        )

    @staticmethod
    def _work(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    async def _run(self) -> None:
        """Watch until cancelled, whatever happens: the last state stays, and grows older."""
        while True:
            try:
                await self._watch(await self._credentials())
            except Exception:
                _log.exception("the watch of the cluster ended; it begins anew")
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))

    async def _credentials(self) -> Credentials:
        said = ""
        while True:
            try:
                return find_credentials(self._where.kubeconfig)
            except CredentialsError as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("the cluster can't be watched: %s", error)
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))

    async def _watch(self, credentials: Credentials) -> None:
        namespace = self._where.namespace or credentials.namespace
        async with Api(credentials) as api:
            while True:
                try:
                    await self._follow(api, namespace, await self._chosen(api, namespace))
                except* _PoolChanged:
                    _log.warning("InferencePool %s chooses other pods now", self._where.inference_pool)

    async def _chosen(self, api: Api, namespace: str) -> Chosen:
        """What the settings say, or the InferencePool that they name, once it can be read."""
        where, said = self._where, ""
        while where.inference_pool:
            try:
                return await find_pool(api, namespace, where.inference_pool)
            except ApiTrouble as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("InferencePool %s can't be read: %s", where.inference_pool, error)
            await asyncio.sleep(self._timing.longest_pause_s)
        return Chosen(where.selector, where.gateway_port)

    async def _stay(self, api: Api, namespace: str, chosen: Chosen) -> None:
        """:raises _PoolChanged: when the InferencePool no longer says what it said."""
        while self._where.inference_pool:
            await asyncio.sleep(self._timing.relist_s)
            with suppress(ApiTrouble):
                if await find_pool(api, namespace, self._where.inference_pool) != chosen:
                    raise _PoolChanged

    async def _follow(self, api: Api, namespace: str, chosen: Chosen) -> None:
        where = self._where
        changed = asyncio.Event()
        read = partial(read_pod, label_prefix=where.label_prefix, gateway_port=chosen.port, accounts=where.accounts)
        pods, nodes = Pods(read, self._clock, changed.set), Nodes(where.label_prefix, changed.set)
        of_pods = f"/api/v1/namespaces/{namespace}/pods"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay(api, namespace, chosen))
            tasks.create_task(Cache(api, of_pods, {"labelSelector": chosen.selector}, pods, self._timing).follow())
            node_cache = Cache(api, "/api/v1/nodes", {}, nodes, self._timing)
            tasks.create_task(node_cache.follow())
            while True:
                # Pods are judged with their nodes, unless those can't be read at all.
                if pods.synced and (nodes.synced or node_cache.trouble):
                    self._take(pods, nodes)
                await asyncio.sleep(COALESCE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
                changed.clear()

    def _take(self, pods: Pods, nodes: Nodes) -> None:
        before = self._known
        assembly = assemble(pods.facts.values(), nodes.facts if nodes.synced else None, self._models.read())
        if assembly == before.assembly:
            self._known = _Known(before.assembly, dict(pods.seen_s), before.version)
        else:
            self._known = _Known(assembly, dict(pods.seen_s), before.version + 1)
            unmeasured = frozenset(
                filter(None, (without_speeds(assembly.fleet, model) for model in assembly.fleet.models))
            )
            for reason in sorted(unmeasured - self._unmeasured):
                _log.warning("%s: such stages wait; list speeds by one of these names in [fate] models_file", reason)
            self._unmeasured = unmeasured
