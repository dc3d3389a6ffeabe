"""How does a whole Kubernetes start on this machine, and end without a trace?

etcd, kube-apiserver with RBAC, kube-controller-manager, kube-scheduler; kwok, which simulates the nodes that bear its
label; and the process kubelet, whose nodes' pods really run. Everything is new at every start and lies in one folder.
"""

from __future__ import annotations

import shutil
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from airflow_fate.gateway.child import free_port
from tests.cluster import credentials, network
from tests.cluster.binaries import Binaries, ensure
from tests.cluster.credentials import Credentials
from tests.cluster.kubelet.config import KubeletConfig
from tests.cluster.network import HOST, Network
from tests.cluster.processes import Programs

ROOT = Path(__file__).resolve().parents[2]
NODES = Path(__file__).parent / "nodes.yaml"
# Nodes with this label, and pods bound to them, are simulated by kwok.
SIMULATED = "type=kwok"
READY_TIMEOUT_S = 120.0
_POLL_S = 0.05
# Contents of the folder that a start makes anew.
STATE = ("etcd", "keys", "kubelet", "logs")
_FAST = ("--kube-api-qps=500", "--kube-api-burst=1000")


class NotReady(RuntimeError):
    """The cluster did not become ready in time."""


@dataclass
class Cluster:
    """One cluster, as a context manager or by ``start`` and ``stop``.

    :param folder: for its keys, data and logs; what an earlier cluster left there goes.
    :param nodes: file of the nodes that the process kubelet plays.
    :param say: gets lines of progress.
    """

    folder: Path
    nodes: Path = NODES
    say: Callable[[str], None] = print
    programs: Programs = field(init=False)
    binaries: Binaries = field(init=False)
    keys: Credentials = field(init=False)
    network: Network = field(init=False)
    server: str = ""
    _commands: dict[str, list[str | Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.programs = Programs(self.folder / "logs")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "keys" / "admin.kubeconfig"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when its nodes are ready and pods can be made.

        :raises BuildError: a program is missing and can't be built.
        :raises ProgramEnded: one of the programs ended.
        :raises NotReady: it took longer than two minutes.
        """
        self.binaries = ensure(self.say)
        for name in STATE:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.network = network.claim()
        try:
            self._configure()
            for name in ("etcd", "kube-apiserver"):
                self.start_part(name)
            self.wait_for_api()
            for name in ("kube-controller-manager", "kube-scheduler", "kwok", "kubelet"):
                self.start_part(name)
            self._wait("its nodes", self._has_nodes)
            self._wait("the default ServiceAccount", self._has_account)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.programs.stop_all()
        self.network.claim.close()

    def start_part(self, name: str) -> None:
        """One program by its name, also again after ``stop_part``: with the same keys, data and ports."""
        self.programs.start(name, self._commands[name], ROOT)

    def wait_for_api(self) -> None:
        """Until the API server answers, as after its start.

        :raises NotReady: it took longer than two minutes.
        """
        self._wait("the API server", lambda client: client.get("/readyz").is_success)

    def stop_part(self, name: str, grace_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after ``grace_s`` seconds; the API server waits that long for who watches."""
        self.programs.stop(name, grace_s)

    def _configure(self) -> None:
        self.keys = credentials.create(self.folder / "keys", (HOST,))
        store, peers, port = (free_port() for _ in range(3))
        self.server = f"https://{HOST}:{port}"
        store_url, peers_url = f"http://{HOST}:{store}", f"http://{HOST}:{peers}"
        config = {user: credentials.kubeconfig(self.keys, self.server, user) for user in credentials.USERS}
        built, keys = self.binaries, self.keys
        self._commands = {
            "etcd": [
                built["etcd"],
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={store_url}",
                f"--advertise-client-urls={store_url}",
                f"--listen-peer-urls={peers_url}",
                f"--initial-advertise-peer-urls={peers_url}",
                f"--initial-cluster=default={peers_url}",
                # It need not outlive a crash of this machine.
                "--unsafe-no-fsync",
            ],
            "kube-apiserver": [
                built["kube-apiserver"],
                f"--etcd-servers={store_url}",
                f"--bind-address={HOST}",
                f"--secure-port={port}",
                f"--tls-cert-file={keys.server_certificate}",
                f"--tls-private-key-file={keys.server_key}",
                f"--token-auth-file={keys.tokens}",
                "--authorization-mode=RBAC",
                f"--service-account-key-file={keys.account_public_key}",
                f"--service-account-signing-key-file={keys.account_key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={self.network.services}",
                # An endpoint may not be a loopback address, and nothing needs this one.
                "--endpoint-reconciler-type=none",
            ],
            "kube-controller-manager": [
                built["kube-controller-manager"],
                f"--kubeconfig={config['system:kube-controller-manager']}",
                f"--service-account-private-key-file={keys.account_key}",
                f"--root-ca-file={keys.authority}",
                # Each controller under its own, narrow role, as in production.
                "--use-service-account-credentials",
                "--leader-elect=false",
                "--secure-port=0",
                # They would try for ever: a slice may not hold loopback addresses. The kubelet serves Services.
                "--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
                *_FAST,
            ],
            "kube-scheduler": [
                built["kube-scheduler"],
                f"--kubeconfig={config['system:kube-scheduler']}",
                "--leader-elect=false",
                "--secure-port=0",
                *_FAST,
            ],
            "kwok": [
                built["kwok"],
                f"--kubeconfig={config['kwok']}",
                f"--manage-nodes-with-label-selector={SIMULATED}",
                f"--cidr={self.network.simulated_pods}",
                f"--node-ip={HOST}",
                "--node-lease-duration-seconds=40",
                *(f"--config={stage}" for stage in built.stages),
            ],
            "kubelet": [
                *(sys.executable, "-m", "tests.cluster.kubelet"),
                f"--kubeconfig={config['kubelet']}",
                f"--config={self.nodes}",
                f"--network={self.network.pods}",
                f"--folder={self.folder / 'kubelet'}",
            ],
        }

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys.token('admin')}"}
        verify = ssl.create_default_context(cafile=str(self.keys.authority))
        return httpx.Client(base_url=self.server, verify=verify, headers=headers, trust_env=False)

    def _wait(self, what: str, holds: Callable[[httpx.Client], bool]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        with self._client() as client:
            while True:
                self.programs.check()
                with suppress(httpx.TransportError):
                    if holds(client):
                        return
                if time.monotonic() > deadline:
                    raise NotReady(f"{what}: not ready after {READY_TIMEOUT_S:.0f} s; logs: {self.programs.logs}")
                time.sleep(_POLL_S)

    def _has_nodes(self, client: httpx.Client) -> bool:
        """All nodes of the file, and free of the taint that new nodes have until they are found ready."""
        wanted = {node.name for node in KubeletConfig.read(self.nodes).nodes}
        nodes: list[dict[str, Any]] = client.get("/api/v1/nodes").json().get("items", [])
        return wanted <= {node["metadata"]["name"] for node in nodes if not node["spec"].get("taints")}

    @staticmethod
    def _has_account(client: httpx.Client) -> bool:
        return client.get("/api/v1/namespaces/default/serviceaccounts/default").is_success
