"""Does the process kubelet start, probe, restart and stop containers as Kubernetes says?"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.cluster.api import STRATEGIC, Object
from tests.cluster.conftest import Namespace, main_of


async def test_a_process_that_dies_is_started_again(namespace: Namespace) -> None:
    await namespace.pod("mortal")
    before = await namespace.ready("mortal")
    with pytest.raises(httpx.TransportError):
        await namespace.ask(before, "die")
    after = await namespace.until("mortal", lambda pod: main_of(pod)["restartCount"] == 1)
    assert main_of(after)["lastState"]["terminated"]["exitCode"] == 3
    again = await namespace.ready("mortal")
    assert again["status"]["podIP"] == before["status"]["podIP"]


async def test_a_process_that_fails_its_liveness_probe_is_started_again(namespace: Namespace) -> None:
    # Fails once for each time that the file is made: the probe is in the container and sees its files.
    script = "test ! -e /scratch/sick || { rm /scratch/sick; exit 1; }"
    await namespace.pod(
        "hung",
        livenessProbe={"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 1, "failureThreshold": 1},
        volumes=[{"name": "scratch", "emptyDir": {}}],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    )
    pod = await namespace.ready("hung")
    assert await namespace.ask(pod, "append/scratch/sick") == "x"
    restarted = await namespace.until("hung", lambda pod: main_of(pod)["restartCount"] == 1 and main_of(pod)["ready"])
    assert "terminated" in main_of(restarted)["lastState"]
    assert await namespace.ask(pod, "") == "ready"


async def test_a_pod_is_not_ready_before_its_startup_probe_holds(namespace: Namespace) -> None:
    await namespace.pod(
        "loading",
        startupProbe={"exec": {"command": ["test", "-e", "/scratch/loaded"]}, "periodSeconds": 1},
        volumes=[{"name": "scratch", "emptyDir": {}}],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    )
    pod = await namespace.until("loading", lambda pod: pod["status"]["phase"] == "Running")
    assert not main_of(pod)["started"]
    await _answers(namespace, pod)
    assert await namespace.ask(pod, "append/scratch/loaded") == "x"
    assert main_of(await namespace.ready("loading"))["started"]


async def test_deletion_drains_by_sigterm(namespace: Namespace) -> None:
    await namespace.pod("draining", terminationGracePeriodSeconds=20)
    pod = await namespace.ready("draining")
    assert await _answer_at_deletion(namespace, pod) == "drained"
    with pytest.raises(httpx.ConnectError):
        await namespace.ask(pod, "")


async def test_who_ignores_sigterm_is_killed_after_the_grace_period(namespace: Namespace) -> None:
    # The first process of a namespace ignores SIGTERM unless it says otherwise; and it has a child.
    await namespace.pod(
        "stubborn", command=["sh", "-c", "python /srv/test-app/server.py & wait"], terminationGracePeriodSeconds=1
    )
    pod = await namespace.ready("stubborn")
    await namespace.delete("stubborn")
    await namespace.gone("stubborn", timeout_s=10)
    with pytest.raises(httpx.ConnectError):
        await namespace.ask(pod, "")


async def test_init_containers_run_in_order_and_sidecars_stay(namespace: Namespace) -> None:
    scratch = [{"name": "scratch", "mountPath": "/scratch"}]

    def step(name: str, script: str, **more: object) -> Object:
        return {"name": name, "image": "sh", "command": ["sh", "-c", script], "volumeMounts": scratch, **more}

    await namespace.pod(
        "staged",
        initContainers=[
            step("first", "echo first >> /scratch/steps"),
            step("beside", "echo beside >> /scratch/steps; exec sleep 1000", restartPolicy="Always"),
            step("second", "until grep beside /scratch/steps; do :; done; echo second >> /scratch/steps"),
        ],
        volumes=[{"name": "scratch", "emptyDir": {}}],
        volumeMounts=scratch,
    )
    pod = await namespace.ready("staged")
    assert (await namespace.ask(pod, "file/scratch/steps")).split() == ["first", "beside", "second"]
    states = {status["name"]: next(iter(status["state"])) for status in pod["status"]["initContainerStatuses"]}
    assert states == {"first": "terminated", "beside": "running", "second": "terminated"}


async def test_a_pod_waits_for_a_config_map_that_is_not_there_yet(namespace: Namespace) -> None:
    await namespace.pod("early", envFrom=[{"configMapRef": {"name": "late"}}])
    waiting = await namespace.until("early", lambda pod: "late not found" in str(pod["status"]))
    assert waiting["status"]["phase"] == "Pending"
    await namespace.create("configmaps", {"metadata": {"name": "late"}, "data": {"A": "b"}})
    assert await namespace.ask(await namespace.ready("early"), "env/A") == "b"


async def test_what_is_not_played_is_said(namespace: Namespace) -> None:
    await namespace.pod("strange", livenessProbe={"grpc": {"port": 1}})
    await namespace.until("strange", lambda pod: "httpGet, tcpSocket, exec only" in str(pod["status"]))


async def test_a_command_that_is_not_there_is_said(namespace: Namespace) -> None:
    await namespace.pod("mistaken", command=["no-such-program"], restartPolicy="Never")
    ended = main_of(await namespace.ended("mistaken"))["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 127)
    assert "no-such-program" in ended["message"]


async def test_a_hook_acts_on_the_processes_of_its_container(namespace: Namespace) -> None:
    # The server tells of SIGTERM; this hook sends it, long before the kubelet would.
    hook = {"exec": {"command": ["sh", "-c", "kill -s TERM 1 && sleep 1000"]}}
    await namespace.pod("hooked", lifecycle={"preStop": hook}, terminationGracePeriodSeconds=1000)
    pod = await namespace.ready("hooked")
    assert await _answer_at_deletion(namespace, pod) == "drained"


async def test_a_pod_that_is_not_restarted_ends_as_its_process_did(namespace: Namespace) -> None:
    for name, script in (("well", "exit 0"), ("badly", "exit 4")):
        await namespace.pod(name, command=["sh", "-c", script], restartPolicy="Never")
    assert (await namespace.ended("well"))["status"]["phase"] == "Succeeded"
    badly = await namespace.ended("badly")
    assert badly["status"]["phase"] == "Failed"
    assert main_of(badly)["state"]["terminated"]["exitCode"] == 4
    await namespace.delete("badly")
    await namespace.gone("badly")


async def test_a_label_that_others_write_stays(namespace: Namespace) -> None:
    await namespace.pod("labelled")
    pod = await namespace.ready("labelled")
    change = {"metadata": {"labels": {"seen": "yes"}}}
    await namespace.api.patch(f"{namespace.path('pods')}/labelled", change, STRATEGIC)
    # Its status, which the kubelet writes, and its label, which others do, do not undo each other.
    with pytest.raises(httpx.TransportError):
        await namespace.ask(pod, "die")
    again = await namespace.until("labelled", lambda pod: main_of(pod)["restartCount"] == 1)
    assert again["metadata"]["labels"]["seen"] == "yes"


async def _answer_at_deletion(namespace: Namespace, pod: Object) -> str:
    """What the pod, deleted in mid-answer, answered before it was gone."""
    answer = asyncio.create_task(namespace.ask(pod, "drain"))
    # The server works on it, for it answers this later one.
    await namespace.ask(pod, "")
    name = pod["metadata"]["name"]
    await namespace.delete(name)
    said = await answer
    await namespace.gone(name)
    return said


async def _answers(namespace: Namespace, pod: Object) -> None:
    """Wait until the pod's server listens: no event tells of it while its startup probe does not hold."""
    async with asyncio.timeout(20):
        while True:
            try:
                await namespace.ask(pod, "")
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
