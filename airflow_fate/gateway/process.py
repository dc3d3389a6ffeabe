"""How does a gateway live? It is built from its fleet's settings, serves, and drains when it has to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from airflow_fate.gateway.artifacts import Artifacts
from airflow_fate.gateway.core import DeviceTraits, Gateway
from airflow_fate.gateway.engines.base import Engine
from airflow_fate.gateway.engines.managed import ManagedEngine
from airflow_fate.gateway.engines.served import LOAD_TIMEOUT_S, VLLM_SIGNALS, ServedEngine
from airflow_fate.gateway.engines.simulated import SimulatedEngine, Speeds
from airflow_fate.gateway.http.app import create_app
from airflow_fate.gateway.http.auth import Guard
from airflow_fate.gateway.http.connections import HEAD_BYTES, find_connection_limits, limited, sweep
from airflow_fate.gateway.report.kubernetes_pod import INTERVAL_S, KubernetesPod, heartbeat_s
from airflow_fate.gateway.report.publisher import PodFile, Publisher
from airflow_fate.gateway.serving.host_cache import HostCache
from airflow_fate.gateway.serving.journal import Journal
from airflow_fate.gateway.settings import SERVED, GatewaySettings, SettingsError, read_settings
from airflow_fate.kube.api import Api
from airflow_fate.kube.credentials import find_credentials
from airflow_fate.messages import step_tokens

SHUTDOWN_GRACE_S = 1
QUIET_S = 10.0
"""So long a task may take from being bound to its first request."""


def run(folder: Path, device: str, host: str, own_pod: bool, exit_with_stdin: bool) -> None:
    """Serve one device of the fleet of a folder until SIGINT or SIGTERM.

    :raises SettingsError, NoSecret, CredentialsError: when it can't begin, saying what is missing.
    """
    settings = read_settings(folder, device)
    guard = Guard(settings.secret, settings.device_id, setting=str(settings.folder / "secret"))
    try:
        listener = listen(host, settings.device.port)
    except OSError as error:
        where, why = f"port {settings.device.port} of {host}", os.strerror(error.errno or 0)
        raise SettingsError(
            f"devices.{device}.port: {where} can't be listened on ({why}); choose another, or 0 for a free one"
        ) from error
    gateway = build_gateway(settings)
    publisher = (_on_own_pod if own_pod else _on_file)(settings, gateway, listener)
    asyncio.run(_serve(gateway, publisher, guard, listener, settings.fleet.drain_s, exit_with_stdin))


def listen(host: str, port: int) -> socket.socket:
    """:param host: an address; ``::`` is all of both families, where the machine has both."""
    if ":" not in host:
        return socket.create_server((host, port))
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=both)


async def _serve(
    gateway: Gateway,
    publisher: Publisher,
    guard: Guard,
    listener: socket.socket,
    drain_s: float,
    exit_with_stdin: bool,
) -> None:
    gateway.on_change = publisher.changed

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        looking = sweep(server.server_state.connections)
        tasks = [asyncio.create_task(work) for work in (publisher.run(), gateway.keep_own_models(), looking)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.serving.close()

    connection_limits = find_connection_limits()
    server = _Server(
        uvicorn.Config(
            create_app(gateway, guard, lifespan),
            # What this process' own log has and holds back.
            log_config=None,
            log_level="warning",
            access_log=False,
            http=limited(gateway.limits, connection_limits.most),
            ws="none",
            h11_max_incomplete_event_size=HEAD_BYTES,
            backlog=connection_limits.backlog,
            timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        ),
        gateway,
        drain_s,
    )
    if exit_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(server,), daemon=True).start()
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Drains before it ends; a second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, drain_s: float) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_s = drain_s
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining is None and sig == signal.SIGTERM:
            self._draining = asyncio.get_running_loop().create_task(self._drain(sig))
        else:
            super().handle_exit(sig, frame)

    async def _drain(self, sig: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._gateway.drained(QUIET_S)
        super().handle_exit(sig, None)


def _on_file(settings: GatewaySettings, gateway: Gateway, listener: socket.socket) -> Publisher:
    pod = PodFile(
        settings.folder / "pods",
        settings.device_id,
        settings.device.node,
        port=listener.getsockname()[1],
        label_prefix=settings.fleet.label_prefix,
        prefix_labels=settings.fleet.prefix_labels,
    )
    return Publisher(pod, gateway.report)


def _on_own_pod(settings: GatewaySettings, gateway: Gateway, listener: socket.socket) -> Publisher:
    """:raises SettingsError, CredentialsError: when it can't be known which pod, or who this is to the API server."""
    names = ("POD_NAMESPACE", "POD_NAME", "POD_UID")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise SettingsError(f"--own-pod needs {', '.join(missing)} in the environment, from the downward API")
    namespace, name, uid = (os.environ[name] for name in names)
    fleet = settings.fleet
    pod = KubernetesPod(Api(find_credentials()), namespace, name, uid, fleet.label_prefix, fleet.prefix_labels)
    return Publisher(pod, gateway.report, INTERVAL_S, heartbeat_s())


def build_gateway(settings: GatewaySettings) -> Gateway:
    """The gateway and the engine driver that the settings ask for."""
    device, models = settings.device, settings.servable_models
    traits = DeviceTraits(
        id=settings.device_id,
        gpu=device.gpu,
        engine=device.engine,
        memory_bytes=device.memory_gb * 1e9,
        kv_tokens=device.kv_tokens,
        max_seqs=device.max_seqs,
        weights_bytes={name: model.member_bytes for name, model in models.items()},
        # A server that runs by itself was told its context by somebody else.
        context_tokens=0 if device.engine in (*SERVED, "vllm-managed") else device.context_tokens,
        batch_tokens=step_tokens(device.engine, device.batch_tokens),
    )
    host_cache = HostCache(settings.host_bytes, traits.weights_bytes)
    artifacts = Artifacts(
        settings.folder / "artifacts" / device.node, budget_bytes=int(settings.fleet.artifacts_gb * 1e9)
    )
    fences = Journal(settings.folder / "fences" / f"{settings.device_id}.jsonl").fences
    return Gateway(traits, _engine(settings, host_cache), artifacts, host_cache, settings.fleet.limits, fences)


def _engine(settings: GatewaySettings, host_cache: HostCache) -> Engine:
    device, models = settings.device, settings.servable_models

    def in_host_memory(model: str) -> bool:
        return model in host_cache.models

    if device.engine == "simulated":
        return SimulatedEngine(
            {
                name: Speeds(
                    prefill_tps=model.prefill_tps[device.gpu],
                    decode_tps=model.decode_tps[device.gpu],
                    disk_load_s=model.member_bytes / 1e9 / model.load_gb_per_s.disk,
                    host_load_s=model.member_bytes / 1e9 / model.load_gb_per_s.host,
                    decode_slowdown=model.decode_slowdown.get(device.gpu, settings.fleet.decode_slowdown),
                    context_slowdown=model.context_slowdown.get(device.gpu, 0.0),
                )
                for name, model in models.items()
            },
            device.kv_tokens,
            in_host_memory=in_host_memory,
            batch_tokens=device.batch_tokens,
        )
    if device.engine in SERVED:
        return ServedEngine(
            device.engine_url,
            [name for name, model in models.items() if not model.adapter],
            VLLM_SIGNALS if device.engine == "vllm" else {},
            adapters={name: model.adapter for name, model in models.items() if model.adapter},
            events_url=device.events_url,
            key=settings.engine_key,
            load_timeout_s=device.load_timeout_s or LOAD_TIMEOUT_S,
        )
    files = {name: model.file for name, model in models.items() if model.file}
    if device.engine == "vllm-managed":
        return ManagedEngine(
            files,
            device.engine_command,
            in_host_memory if device.engine_sleeps else None,
            load_timeout_s=device.load_timeout_s or LOAD_TIMEOUT_S,
        )
    from airflow_fate.gateway.engines import llamacpp

    return llamacpp.LlamaCppEngine(
        {name: Path(file) for name, file in files.items()},
        threads=device.threads,
        slots=device.max_seqs,
        context_tokens=device.context_tokens,
        batch_tokens=step_tokens(device.engine, device.batch_tokens),
        cache_ram_mib=device.cache_ram_mib,
        load_timeout_s=device.load_timeout_s or llamacpp.LOAD_TIMEOUT_S,
    )


def _stop_with_stdin(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True
