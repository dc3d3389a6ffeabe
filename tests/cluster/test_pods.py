"""Does a pod find what it was promised: variables, files, addresses, names, rights?"""

from __future__ import annotations

import base64

from tests.cluster.conftest import Namespace, main_of, server_spec


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
    values = {
        name: await namespace.ask(pod, f"env/{name}")
        for name in ("MY_COLOR", "COLOR", "KEY", "ADDRESS", "POD_IP", "URL", "BIND", "ABSENT", "HOSTNAME")
    }
    assert values == {
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
    assert main_of(await namespace.ended("scripted"))["state"]["terminated"]["exitCode"] == 7


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


async def test_pods_have_addresses_and_names_of_their_own(namespace: Namespace) -> None:
    for name in ("one", "two"):
        await namespace.pod(name)
    first, two = await namespace.ready("one"), await namespace.ready("two")
    # On the same port, and under the pod's name.
    answers = [await namespace.ask(pod, "host") for pod in (first, two)]
    assert answers == [f"one {first['status']['podIP']}", f"two {two['status']['podIP']}"]


async def test_a_process_is_the_user_that_its_pod_says(namespace: Namespace) -> None:
    await namespace.pod("somebody", securityContext={"runAsUser": 50000})
    # It has a name, and is the first process of its own namespace, as in a container.
    assert await namespace.ask(await namespace.ready("somebody"), "user") == "50000 container 1"


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
    created = await namespace.create("persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": claim})
    for name, content in (("writer", "x"), ("later", "xx")):
        await namespace.pod(
            name,
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        )
        assert await namespace.ask(await namespace.ready(name), "append/data/file") == content
        await namespace.delete(name)
        await namespace.gone(name)
    await namespace.api.delete(f"{claims}/data")
    volume = f"claim-{created['metadata']['uid']}"
    await namespace.api.until("/api/v1/persistentvolumes", volume, lambda left: left is None)
