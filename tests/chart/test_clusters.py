"""What clusters that are not ours ask of a release."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, KUBERNETES, Helm, Refused, Render, Rendered, Values, base, merged
from tests.chart.test_matrix import CLUSTERS, MATRIX, NUMBERS_TO_YAML, PLACES, containers

TEXTS = {"labels", "annotations", "matchLabels", "nodeSelector", "data", "stringData"}
NAMES = {"name", "key", "value", "namespace", "claimName", "secretName", "path", "mountPath", "image", "serviceName"}
NAMES |= {"serviceAccountName", "priorityClassName", "storageClassName"}


def scalars(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Where Kubernetes wants text: names, labels, arguments."""
    if isinstance(node, list):
        for value in node:
            yield from scalars(value, at)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in TEXTS and isinstance(value, dict):
                yield from ((f"{at}.{key}.{name}", text) for name, text in value.items())
            elif key in ("args", "command"):
                yield from ((f"{at}.{key}", text) for text in value)
            elif key in NAMES and not isinstance(value, dict):
                yield f"{at}.{key}", value
            else:
                yield from scalars(value, f"{at}.{key}")


@pytest.mark.parametrize("name", ["gitops", "gitops, bundled database", "ipv6"])
def test_where_nothing_can_be_looked_up_two_renderings_are_equal(helm: Helm, name: str) -> None:
    key = {"signingKey": {"existingSecret": "fate-keys"}}
    command = ("template", "r", CHART, "--namespace=space", f"--kube-version={KUBERNETES}")
    first, second = (helm(*command, values=merged(CLUSTERS[name], key)) for _ in range(2))
    assert first == second


def migration(rendered: Rendered) -> tuple[str, Values]:
    ((name, job),) = rendered.of("Job").items()
    return name, job["spec"]


def test_the_migrations_name_follows_what_it_does(render: Render) -> None:
    once = migration(render(base()))
    assert migration(render(base(pools={}))) == once
    newer = migration(render(base(image={"tag": "2.0.0"})))
    other = migration(render(base(airflow={"database": {"existingSecret": "another"}})))
    assert len({name for name, _ in (once, newer, other)}) == 3


def fixed_users(pod: Values) -> set[str]:
    contexts = [
        pod["spec"].get("securityContext", {}),
        *(container.get("securityContext", {}) for container in containers(pod)),
    ]
    return {
        key
        for context in contexts
        for key in context
        if key in ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups")
    }


def test_openshift_may_choose_users_and_groups(render: Render) -> None:
    pods = render(CLUSTERS["openshift"]).pods()
    assert {at: users for at, pod in pods.items() if (users := fixed_users(pod))} == {}
    assert all(pod["spec"]["securityContext"]["runAsNonRoot"] for pod in pods.values())


def test_security_contexts_can_be_left_out_wholly(render: Render) -> None:
    for at, pod in render(CLUSTERS["nobody says who runs"]).pods().items():
        assert "securityContext" not in pod["spec"], at
        assert not [container["name"] for container in containers(pod) if "securityContext" in container], at


def test_who_runs_the_engine_may_write_to_a_fresh_claim(render: Render) -> None:
    pod = render(CLUSTERS["restricted"]).pods()["Deployment/r-fate-pool-managed"]["spec"]
    (only,) = pod["containers"]
    assert only["securityContext"]["runAsUser"] == 50000
    assert pod["securityContext"]["fsGroup"] == 50000
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch", "weights are many and large"


def test_an_engine_that_is_not_root_has_folders_that_it_may_write(render: Render) -> None:
    engine = render(CLUSTERS["restricted"]).pods()["Deployment/r-fate-pool-one"]["spec"]["containers"][0]
    env = {variable["name"]: variable.get("value") for variable in engine["env"]}
    assert (env["HF_HOME"], env["HOME"]) == ("/models", "/tmp")
    assert {"name": "cache", "mountPath": "/models"} in engine["volumeMounts"]


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        ({"gpus": 1}, None),
        ({"gpus": 4}, "8Gi"),
        ({"gpus": 4, "sharedMemory": "1Gi"}, "1Gi"),
        ({"gpus": 1, "sharedMemory": "1Gi"}, "1Gi"),
        ({"gpus": 8, "driver": "vllm-managed", "cache": {"mountPath": "/models"}}, "16Gi"),
        ({"models": ["big"], "group": {"size": 2, "workerArgs": ["-"]}}, "2Gi"),
    ],
)
def test_processes_that_share_a_model_have_room_to_meet(render: Render, pool: Values, size: str | None) -> None:
    whole = merged({"models": ["small"], "engine": {"image": "vllm/vllm-openai:v0.24.0"}}, pool)
    for at, pod in render(base(pools={"p": whole})).pods().items():
        if "-pool-" in at:
            volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
            limit = volumes.get("shared-memory", {"emptyDir": {}})["emptyDir"].get("sizeLimit")
            mounted = [
                mount for c in containers(pod) for mount in c["volumeMounts"] if mount["mountPath"] == "/dev/shm"
            ]
            assert (limit, len(mounted)) == (size, 1 if size else 0), at


def test_ipv6_addresses_are_bracketed_and_listened_on(render: Render) -> None:
    rendered = render(CLUSTERS["ipv6"])
    text = json.dumps(rendered.objects)
    assert re.findall(r"//\$\(POD_IP\)", text) == []
    assert "0.0.0.0" not in text
    fleet = json.loads(rendered.one("ConfigMap", "r-fate-pool-one")["data"]["fleet.json"])
    (device,) = fleet["devices"].values()
    assert device["engine_url"] == "http://[$(POD_IP)]:8000"
    assert device["events_url"] == "tcp://127.0.0.1:5557", "what ZeroMQ listens on"
    engine, gateway = rendered.pods()["Deployment/r-fate-pool-one"]["spec"]["containers"]
    assert "--host=::" in engine["args"]
    assert gateway["args"][gateway["args"].index("--host") + 1] == "::"


def test_the_airflow_of_the_chart_refuses_ipv6(render: Render) -> None:
    with pytest.raises(
        Refused, match=r"airflow.enabled must be false where ipFamily is IPv6; the Airflow of this chart"
    ):
        render(base(ipFamily="IPv6"))


def test_a_simulated_engine_without_speeds_is_refused(render: Render) -> None:
    pools = {"p": {"models": ["small"], "driver": "simulated", "gpu": "H200"}}
    with pytest.raises(Refused, match=r'pools.p.gpu is "H200", for which models.small has no speeds'):
        render(base(pools=pools))


def test_a_mesh_knows_all_pods_and_leaves_those_alone_that_end(render: Render) -> None:
    rendered = render(CLUSTERS["mesh"])
    injected = {at: pod["metadata"]["labels"].get("sidecar.istio.io/inject") for at, pod in rendered.pods().items()}
    ending = {at for at in injected if at.startswith(("Job/", "Pod/"))}
    assert injected == {at: "false" if at in ending else "true" for at in injected}
    worker = rendered.one("ConfigMap", "r-fate-worker")["data"]["pod_template.yaml"]
    assert 'sidecar.istio.io/inject: "false"' in worker
    gateways = [pod for at, pod in rendered.pods().items() if "-pool-" in at]
    assert all(pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"] for pod in gateways)


def test_a_model_that_loads_for_hours_is_neither_killed_nor_a_failed_rollout(render: Render) -> None:
    deployment = render(CLUSTERS["long loads"]).one("Deployment", "r-fate-pool-one")["spec"]
    startup = deployment["template"]["spec"]["containers"][0]["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 6 * 3600
    assert deployment["progressDeadlineSeconds"] > 6 * 3600


@pytest.mark.parametrize(("release", "namespace"), PLACES)
@pytest.mark.parametrize("name", [*CLUSTERS, "kubernetes executor", "celery"])
def test_texts_stay_texts_and_numbers_whole(render: Render, name: str, release: str, namespace: str) -> None:
    rendered = render(MATRIX[name], release, namespace)
    wrong = [
        (manifest["kind"], at, text)
        for manifest in rendered.objects
        for at, text in scalars(manifest)
        if not isinstance(text, str)
    ]
    assert wrong == []
    exponents = re.findall(r"(?<![\w.])[0-9.]+e\+[0-9]+", json.dumps(rendered.objects))
    assert exponents == []


def test_odd_names_arrive_as_they_were_written(render: Render) -> None:
    pods = render(CLUSTERS["names that YAML takes for something else"], "1e3", "on").pods()
    for name in NUMBERS_TO_YAML[:2]:
        pod = pods[f"Deployment/fate-1e3-fate-pool-{name}"]
        assert pod["metadata"]["labels"]["fate-pool"] == name
        args = pod["spec"]["containers"][0]["args"]
        assert args[:2] == [f"--model=org/{name}: #1", f"--served-model-name={name}"]


def test_the_planner_is_told_odd_names_as_they_were_written(render: Render) -> None:
    rendered = render(CLUSTERS["names that YAML takes for something else"])
    models = yaml.safe_load(rendered.one("ConfigMap", "r-fate-models")["data"]["models.yaml"])["models"]
    assert set(models) == set(NUMBERS_TO_YAML)


def test_large_numbers_are_written_out(render: Render) -> None:
    rendered = render(CLUSTERS["large numbers"])
    args = rendered.pods()["Deployment/r-fate-pool-one"]["spec"]["containers"][0]["args"]
    assert {"--max-model-len=1048576", "--max-num-seqs=1000000"} <= set(args)
    assert rendered.one("ConfigMap", "r-fate-airflow")["data"]["AIRFLOW__FATE__SEARCH_MS"] == "1000000"


def test_long_release_names_stay_apart_and_within_what_labels_may_hold(render: Render) -> None:
    long = "a-release-whose-name-is-as-long-as-helm-lets-it-be-"
    releases = [render(MATRIX["bundled database"], f"{long}{end}") for end in ("53", "54")]
    names = [
        {(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered.objects} for rendered in releases
    ]
    assert names[0] & names[1] == set()
    for kind, name in names[0]:
        # A StatefulSet's pods bear its name and a hash of ten in a label.
        assert len(name) <= {"Service": 63, "Job": 63, "StatefulSet": 52}.get(kind, 253), (kind, name)
        assert kind != "Service" or re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
