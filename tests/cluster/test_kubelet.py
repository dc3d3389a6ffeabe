"""Does the process kubelet do with pods what they and Kubernetes rely on?"""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest

from tests.cluster.api import STRATEGIC, Object
from tests.cluster.conftest import Namespace, server_spec


async def test_a_pod_has_its_environment_and_files(namespace: Namespace) -> None:
    await namespace.create("configmaps", {"metadata": {"name": "plain"}, "data": {"COLOR": "blue", "SIZE": "3"}})
    secret = base64.b64encode(b"hidden").decode()
    await namespace.create("secrets", {"metadata": {"name": "key"}, "data": {"KEY": secret}})
    await namespace.pod(
        "seen",
        envFrom=[{"configMapRef": {"name": "plain"}, "prefix": "MY_"}],
        env=[
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "plain", "key": "COLOR"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "KEY"}}},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "URL", "value": "http://$(ADDRESS):$(MY_SIZE)"},
            {"name": "BIND", "value": "0.0.0.0:80"},
            {"name": "ABSENT", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "X", "optional": True}}},
        ],
        volumes=[
            {"name": "key", "secret": {"secretName": "key", "items": [{"key": "KEY", "path": "deep/key.txt"}]}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "plain", "configMap": {"name": "plain"}},
        ],
        volumeMounts=[
            {"name": "key", "mountPath": "/not-on-this-machine/scratch/key"},
            {"name": "plain", "mountPath": "/etc/one-file.cfg", "subPath": "COLOR"},
            {"name": "scratch", "mountPath": "/not-on-this-machine/scratch"},
        ],
    )
    pod = await namespace.ready("seen")
    assert not any("reason" in condition for condition in pod["status"]["conditions"])
    address = pod["status"]["podIP"]
    told = {
        name: await namespace.ask(pod, f"env/{name}")
        for name in ("MY_COLOR", "COLOR", "KEY", "ADDRESS", "POD_IP", "URL", "BIND", "ABSENT", "HOSTNAME")
    }
    assert told == {
        "MY_COLOR": "blue",
        "COLOR": "blue",
        "KEY": "hidden",
        "ADDRESS": address,
        "POD_IP": address,
        "URL": f"http://{address}:3",
        "BIND": f"{address}:80",
        "ABSENT": "",
        "HOSTNAME": "seen",
    }
    assert await namespace.ask(pod, "file/not-on-this-machine/scratch/key/deep/key.txt") == "hidden"
    assert await namespace.ask(pod, "file/etc/one-file.cfg") == "blue"
    assert await namespace.ask(pod, "append/not-on-this-machine/scratch/file") == "x"
    # What is mounted from a Secret can't be written to.
    assert "Read-only" in await namespace.ask(pod, "append/not-on-this-machine/scratch/key/deep/key.txt")


async def test_an_image_runs_what_the_nodes_file_says(namespace: Namespace) -> None:
    await namespace.pod("bare", image="test-server:v1", command=[])
    assert await namespace.ask(await namespace.ready("bare"), "") == "ready"


async def test_a_script_of_a_config_map_can_be_the_command(namespace: Namespace) -> None:
    script = "#!/bin/sh\nexit 7\n"
    await namespace.create("configmaps", {"metadata": {"name": "script"}, "data": {"run": script}})
    await namespace.pod(
        "scripted",
        command=["/scripts/run"],
        restartPolicy="Never",
        volumes=[{"name": "scripts", "configMap": {"name": "script", "defaultMode": 0o555}}],
        volumeMounts=[{"name": "scripts", "mountPath": "/scripts"}],
    )
    assert _main(await namespace.ended("scripted"))["state"]["terminated"]["exitCode"] == 7


async def test_volumes_can_be_anywhere(namespace: Namespace) -> None:
    # /tmp is there and not empty; of the others this machine has no more than /opt.
    places = ("/tmp", "/opt/b/c", "/opt/b", "/opt/a/c", "/opt-of-pods")
    await namespace.pod(
        "anywhere",
        volumes=[{"name": f"v{number}", "emptyDir": {}} for number in range(len(places))],
        volumeMounts=[{"name": f"v{number}", "mountPath": place} for number, place in enumerate(places)],
    )
    pod = await namespace.ready("anywhere")
    assert [await namespace.ask(pod, f"append{place}/file") for place in places] == ["x"] * len(places)


async def test_pods_have_addresses_of_their_own(namespace: Namespace) -> None:
    for name in ("one", "two"):
        await namespace.pod(name)
    one, two = await namespace.ready("one"), await namespace.ready("two")
    # On the same port.
    assert [await namespace.ask(pod, "env/HOSTNAME") for pod in (one, two)] == ["one", "two"]


async def test_a_process_is_the_user_that_its_pod_says(namespace: Namespace) -> None:
    await namespace.pod("somebody", securityContext={"runAsUser": 50000})
    # It has a name, and is the first process of its own namespace, as in a container.
    assert await namespace.ask(await namespace.ready("somebody"), "user") == "50000 container 1"


async def test_a_process_that_dies_is_started_again(namespace: Namespace) -> None:
    await namespace.pod("mortal")
    before = await namespace.ready("mortal")
    with pytest.raises(httpx.TransportError):
        await namespace.ask(before, "die")
    after = await namespace.api.until(
        namespace.path("pods"), "mortal", lambda pod: pod is not None and _main(pod)["restartCount"] == 1
    )
    assert after
    assert _main(after)["lastState"]["terminated"]["exitCode"] == 3
    again = await namespace.ready("mortal")
    assert again["status"]["podIP"] == before["status"]["podIP"]


async def test_a_process_that_fails_its_liveness_probe_is_started_again(namespace: Namespace) -> None:
    probe = {"exec": {"command": ["test", "-e", "/scratch/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    await namespace.pod(
        "hung",
        livenessProbe={**probe, "initialDelaySeconds": 1},
        volumes=[{"name": "scratch", "emptyDir": {}}],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    )
    pod = await namespace.ready("hung")
    restarted = await namespace.api.until(
        namespace.path("pods"), "hung", lambda pod: pod is not None and _main(pod)["restartCount"] == 1
    )
    assert restarted
    # The probe sees the container's files: with the file there, it holds.
    await namespace.api.until(namespace.path("pods"), "hung", lambda pod: pod is not None and _main(pod)["ready"])
    assert await namespace.ask(pod, "append/scratch/alive") == "x"


async def test_a_pod_is_not_ready_before_its_startup_probe_holds(namespace: Namespace) -> None:
    await namespace.pod(
        "loading",
        startupProbe={"exec": {"command": ["test", "-e", "/scratch/loaded"]}, "periodSeconds": 1},
        volumes=[{"name": "scratch", "emptyDir": {}}],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    )
    pod = await namespace.api.until(
        namespace.path("pods"), "loading", lambda pod: pod is not None and pod["status"]["phase"] == "Running"
    )
    assert pod
    assert not _main(pod)["started"]
    await _answers(namespace, pod)
    assert await namespace.ask(pod, "append/scratch/loaded") == "x"
    assert _main(await namespace.ready("loading"))["started"]


async def test_deletion_drains_by_sigterm(namespace: Namespace) -> None:
    await namespace.pod("draining", terminationGracePeriodSeconds=20)
    pod = await namespace.ready("draining")
    answer = asyncio.create_task(namespace.ask(pod, "drain"))
    # The server works on it, for it answers this later one.
    await namespace.ask(pod, "")
    await namespace.api.delete(f"{namespace.path('pods')}/draining")
    assert await answer == "drained"
    await namespace.gone("draining")
    with pytest.raises(httpx.ConnectError):
        await namespace.ask(pod, "")


async def test_who_ignores_sigterm_is_killed_after_the_grace_period(namespace: Namespace) -> None:
    # The first process of a namespace ignores SIGTERM unless it says otherwise; and it has a child.
    await namespace.pod(
        "stubborn", command=["sh", "-c", "python /srv/test-app/server.py & wait"], terminationGracePeriodSeconds=1
    )
    pod = await namespace.ready("stubborn")
    await namespace.api.delete(f"{namespace.path('pods')}/stubborn")
    await namespace.gone("stubborn", timeout_s=10)
    with pytest.raises(httpx.ConnectError):
        await namespace.ask(pod, "")


async def test_a_service_account_may_do_what_its_role_says_and_nothing_else(namespace: Namespace) -> None:
    rbac = "apis/rbac.authorization.k8s.io/v1"
    await namespace.create("serviceaccounts", {"metadata": {"name": "reader"}})
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    await namespace.create("roles", {"metadata": {"name": "read-pods"}, "rules": rules}, rbac)
    binding = {
        "metadata": {"name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read-pods"},
    }
    await namespace.create("rolebindings", binding, rbac)
    await namespace.pod("reading", serviceAccountName="reader")
    await namespace.pod("anybody")
    pods = f"api{namespace.path('pods').removeprefix('/api')}"
    reader, other = await namespace.ready("reading"), await namespace.ready("anybody")
    assert await namespace.ask(reader, f"api/{pods}") == "200"
    assert await namespace.ask(reader, "api/api/v1/nodes") == "403"
    assert await namespace.ask(other, f"api/{pods}") == "403"
    assert await namespace.ask(reader, "file/var/run/secrets/kubernetes.io/serviceaccount/namespace") == namespace.name


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
    states = {one["name"]: next(iter(one["state"])) for one in pod["status"]["initContainerStatuses"]}
    assert states == {"first": "terminated", "beside": "running", "second": "terminated"}


async def test_a_pod_waits_for_a_config_map_that_is_not_there_yet(namespace: Namespace) -> None:
    await namespace.pod("early", envFrom=[{"configMapRef": {"name": "late"}}])
    waiting = await namespace.api.until(
        namespace.path("pods"), "early", lambda pod: "late not found" in str((pod or {}).get("status"))
    )
    assert waiting
    assert waiting["status"]["phase"] == "Pending"
    await namespace.create("configmaps", {"metadata": {"name": "late"}, "data": {"A": "b"}})
    assert await namespace.ask(await namespace.ready("early"), "env/A") == "b"


async def test_what_is_not_played_is_said(namespace: Namespace) -> None:
    await namespace.pod("strange", livenessProbe={"grpc": {"port": 1}})
    await namespace.api.until(
        namespace.path("pods"), "strange", lambda pod: "httpGet, tcpSocket, exec only" in str((pod or {}).get("status"))
    )


async def test_a_command_that_is_not_there_is_said(namespace: Namespace) -> None:
    await namespace.pod("mistaken", command=["no-such-program"], restartPolicy="Never")
    ended = _main(await namespace.ended("mistaken"))["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 127)
    assert "no-such-program" in ended["message"]


async def test_a_hook_acts_on_the_processes_of_its_container(namespace: Namespace) -> None:
    # The server tells of SIGTERM; this hook sends it, long before the kubelet would.
    hook = {"exec": {"command": ["sh", "-c", "kill -s TERM 1 && sleep 1000"]}}
    await namespace.pod("hooked", lifecycle={"preStop": hook}, terminationGracePeriodSeconds=1000)
    pod = await namespace.ready("hooked")
    drained = asyncio.create_task(namespace.ask(pod, "drain"))
    await namespace.ask(pod, "")
    await namespace.api.delete(f"{namespace.path('pods')}/hooked")
    assert await drained == "drained"
    await namespace.gone("hooked")


async def test_a_pod_that_is_not_restarted_ends_as_its_process_did(namespace: Namespace) -> None:
    for name, script in (("well", "exit 0"), ("badly", "exit 4")):
        await namespace.pod(name, command=["sh", "-c", script], restartPolicy="Never")
    assert (await namespace.ended("well"))["status"]["phase"] == "Succeeded"
    badly = await namespace.ended("badly")
    assert badly["status"]["phase"] == "Failed"
    assert _main(badly)["state"]["terminated"]["exitCode"] == 4
    await namespace.api.delete(f"{namespace.path('pods')}/badly")
    await namespace.gone("badly")


async def test_a_service_leads_to_ready_pods_by_its_name(namespace: Namespace) -> None:
    spec = server_spec()
    await namespace.create("pods", {"metadata": {"name": "behind", "labels": {"app": "web"}}, "spec": spec})
    ports = [{"port": 8000, "targetPort": "http"}]
    await namespace.create(
        "services", {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    )
    # A file beside those that every pod has there.
    one_file = {"name": "server", "mountPath": "/etc/not-on-this-machine", "subPath": "server.py"}
    await namespace.pod("asking", volumeMounts=[one_file])
    await namespace.ready("behind")
    asking = await namespace.ready("asking")
    assert await namespace.ask(asking, "get/http://web:8000/env/HOSTNAME") == "behind"
    url = f"http://web.{namespace.name}.svc.cluster.local:8000/env/HOSTNAME"
    assert await namespace.ask(asking, f"get/{url}") == "behind"


async def test_a_persistent_volume_outlives_pods_and_ends_with_its_claim(namespace: Namespace) -> None:
    claims = namespace.path("persistentvolumeclaims")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = await namespace.create("persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": claim})
    for name, content in (("writer", "x"), ("later", "xx")):
        await namespace.pod(
            name,
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        )
        assert await namespace.ask(await namespace.ready(name), "append/data/file") == content
        await namespace.api.delete(f"{namespace.path('pods')}/{name}")
        await namespace.gone(name)
    await namespace.api.delete(f"{claims}/data")
    volume = f"claim-{made['metadata']['uid']}"
    await namespace.api.until("/api/v1/persistentvolumes", volume, lambda found: found is None)


async def test_a_label_that_others_write_stays(namespace: Namespace) -> None:
    await namespace.pod("labelled")
    pod = await namespace.ready("labelled")
    change = {"metadata": {"labels": {"seen": "yes"}}}
    await namespace.api.patch(f"{namespace.path('pods')}/labelled", change, STRATEGIC)
    # Its status, which the kubelet writes, and its label, which others do, do not undo each other.
    with pytest.raises(httpx.TransportError):
        await namespace.ask(pod, "die")
    again = await namespace.api.until(
        namespace.path("pods"), "labelled", lambda pod: pod is not None and _main(pod)["restartCount"] == 1
    )
    assert again
    assert again["metadata"]["labels"]["seen"] == "yes"


def _main(pod: Object) -> Object:
    found: Object = next((one for one in pod["status"].get("containerStatuses", ()) if one["name"] == "main"), {})
    return found or {"restartCount": 0, "ready": False, "started": False}


async def _answers(namespace: Namespace, pod: Object) -> None:
    """Wait until the pod's server listens: no event tells of it while its startup probe does not hold."""
    async with asyncio.timeout(20):
        while True:
            try:
                await namespace.ask(pod, "")
                return
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
