"""Does a cluster leave nothing behind, however it ends?"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.api import Api
from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.conftest import Namespace
from tests.cluster.kubelet.services import is_ready

END_TIMEOUT_S = 30
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "tests.cluster.kubelet")


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m tests.cluster run`, with a pod whose process runs."""
    command = [sys.executable, "-m", "tests.cluster", "run", "--folder", str(tmp_path)]
    keeper = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert keeper.stdout
    assert [line.strip() for line in keeper.stdout][-1] == "ready"
    yield keeper
    if keeper.poll() is None:
        keeper.kill()
        keeper.wait()


async def _all_of_it(keeper: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
    """The processes of the cluster, and of a pod in it."""
    async with Api.of(folder / "keys" / "admin.kubeconfig") as api:
        namespace = Namespace(api, "default")
        # A child that leaves its parent's session is as much of the pod as any other.
        script = "setsid sleep 1000 & sleep 2000 & wait"
        both = {"exec": {"command": ["sh", "-c", "test $(pgrep -xc sleep) = 2"]}, "periodSeconds": 1}
        spec = {
            "containers": [{"name": "main", "command": ["sh", "-c", script], "readinessProbe": both, "image": "sh"}]
        }
        await namespace.create("pods", {"metadata": {"name": "sleeping"}, "spec": spec})
        await namespace.ready("sleeping")
    processes: list[psutil.Process] = psutil.Process(keeper.pid).children(recursive=True)
    commands = [" ".join(process.cmdline()) for process in processes]
    for part in (*PARTS, "sleep 1000", "sleep 2000"):
        assert any(part in command for command in commands), f"{part} does not run"
    return processes


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda signal_number: signal_number.name
)
async def test_nothing_runs_after_the_end(
    keeper: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    processes = await _all_of_it(keeper, tmp_path)
    keeper.send_signal(number)
    keeper.wait(END_TIMEOUT_S)
    _, left = psutil.wait_procs(processes, END_TIMEOUT_S)
    assert [process.cmdline() for process in left] == []


async def test_a_kubelet_that_comes_back_runs_its_pods_again(cluster: Cluster, namespace: Namespace) -> None:
    await namespace.pod("kept")
    before = (await namespace.ready("kept"))["status"]["startTime"]
    cluster.stop_part("kubelet")
    cluster.start_part("kubelet")
    returned = await namespace.until("kept", lambda pod: is_ready(pod) and pod["status"]["startTime"] != before)
    assert await namespace.ask(returned, "") == "ready"


async def test_a_part_can_go_and_come_back(cluster: Cluster, namespace: Namespace) -> None:
    await namespace.pod("staying")
    pod = await namespace.ready("staying")
    cluster.stop_part("kube-apiserver", grace_s=0)
    assert await namespace.ask(pod, "") == "ready"
    cluster.start_part("kube-apiserver")
    cluster.wait_for_api()
    await namespace.pod("later")
    await namespace.ready("later", timeout_s=60)
    assert await namespace.ask(pod, "") == "ready"
