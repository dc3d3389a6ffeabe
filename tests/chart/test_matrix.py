"""What holds for every release, whatever its values: a matrix of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.conftest import CHART, KUBERNETES, MODEL, Helm, Render, Values, base, example, merged

_POOL: Values = {"models": ["small"], "engine": {"image": "vllm/vllm-openai:v0.24.0"}}
_MANAGED: Values = {
    **_POOL,
    "driver": "vllm-managed",
    "gpus": 4,
    "hostGb": 64,
    "cache": {"existingClaim": "weights", "mountPath": "/models"},
}
NUMBERS_TO_YAML = ("1e3", "on", "007")
_ODD_MODELS = {name: {**MODEL, "source": f"org/{name}: #1"} for name in NUMBERS_TO_YAML}
_KEY = {"existingSecret": "1e3", "key": "007"}
# What clusters ask for that are not like ours.
CLUSTERS: dict[str, Values] = {
    "gitops": merged(base(), example("gitops")),
    "gitops, bundled database": merged(
        base(airflow={}, postgresql={"enabled": True, "password": {"existingSecret": "fate-keys"}}),
        example("gitops"),
        {"airflow": {"database": {"existingSecret": ""}}},
    ),
    "restricted": merged(base(), example("restricted"), {"pools": {"managed": _MANAGED}}),
    "openshift": merged(
        base(airflow={}, postgresql={"enabled": True}), example("openshift"), {"pools": {"managed": _MANAGED}}
    ),
    "nobody says who runs": base(
        airflow={"database": {"existingSecret": "db"}, "podSecurityContext": None, "securityContext": None},
        gateway={"securityContext": None},
        poolDefaults={"gpu": "A100", "podSecurityContext": None},
    ),
    "ipv6": base(ipFamily="IPv6", airflow={"enabled": False}),
    "mesh": merged(
        base(airflow={"database": {"existingSecret": "db"}, "innerExecutor": "KubernetesExecutor"}), example("mesh")
    ),
    "long loads": base(poolDefaults={"gpu": "A100", "engine": {"loadTimeoutS": 6 * 3600}}),
    "names that YAML takes for something else": base(
        image={"repository": "registry/on", "tag": "1e3", "pullSecrets": ["007"]},
        models=_ODD_MODELS,
        pools={
            "1e3": {
                **_POOL,
                "models": ["1e3"],
                "priorityClassName": "007",
                "cache": {"existingClaim": "1e3", "mountPath": "/0x1"},
                "tokenSecret": {"name": "1e3", "key": "on", "env": "ON"},
                "podLabels": {"on": "007"},
                "podAnnotations": {"007": "1e3"},
                "nodeSelector": {"on": "1e3"},
            },
            "on": {**_POOL, "models": ["on"], "sharedMemory": "8", "cache": {"sizeLimit": "100000000"}},
            "007": {"models": ["007"], "driver": "openai", "engine": {"image": "1e3", "args": ["1e3"]}},
        },
        airflow={
            "keys": {"fernet": _KEY, "jwt": _KEY, "api": _KEY, "admin": _KEY},
            "dags": {"existingClaim": "1e3"},
            "logs": {"existingClaim": "007"},
            "podLabels": {"on": "007"},
            "podAnnotations": {"on": "1e3"},
            "innerExecutor": "CeleryExecutor",
            "celery": {"brokerSecret": "1e3"},
        },
        postgresql={"enabled": True, "image": "1e3", "storageClass": "1e3", "password": _KEY},
        signingKey={"existingSecret": "007", "key": "1e3"},
        monitoring={"enabled": True, "tokenSecret": "007", "labels": {"on": "1e3"}},
        networkPolicy={"monitoringNamespaceLabels": {"on": "007"}},
    ),
    "odd names beside the official chart": base(
        airflow={"enabled": False}, officialAirflow={"namespace": "007", "schedulerServiceAccount": "1e3"}
    ),
    "large numbers": base(
        models={"small": {**MODEL, "weightsGb": 2000000, "prefillTps": {"A100": 12000000}}},
        pools={
            "one": {
                **_POOL,
                "contextTokens": 1048576,
                "kvTokens": 100000000,
                "maxSeqs": 1000000,
                "memoryGb": 2000000,
                "engine": {**_POOL["engine"], "loadTimeoutS": 10000000},
            }
        },
        gateway={"artifactsGb": 1000000, "drainS": 1000000},
        fate={"settings": {"search_ms": 1000000}},
        airflow={"database": {"existingSecret": "db"}, "config": {"core": {"parallelism": 1000000}}},
    ),
}
# Release and namespace.
PLACES = [
    ("r", "space"),
    ("1e3", "007"),
    ("0x1f.on", "on"),
    ("a-release-whose-name-is-as-long-as-helm-lets-it-be-53", "n"),
]
MATRIX: dict[str, Values] = {
    "plain": base(),
    "bundled database": base(airflow={}, postgresql={"enabled": True, "storageClass": "fast"}),
    "celery": base(
        airflow={
            "database": {"existingSecret": "db"},
            "innerExecutor": "CeleryExecutor",
            "celery": {"brokerSecret": "redis"},
        }
    ),
    "kubernetes executor": base(
        airflow={
            "database": {"existingSecret": "db"},
            "innerExecutor": "KubernetesExecutor",
            "dags": {"configMap": "d"},
        }
    ),
    "official airflow": base(airflow={"enabled": False}, officialAirflow={"namespace": "flow"}),
    "no pools": base(pools={}),
    "all options of a pool": base(
        pools={
            "all": {
                **_POOL,
                "gpus": 4,
                "sharedMemory": "16Gi",
                "nodeSelector": {"nvidia.com/gpu.product": "A100"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "priorityClassName": "high",
                "cache": {"existingClaim": "weights"},
                "tokenSecret": {"name": "hub"},
                "apiKeySecret": {"name": "engine-key"},
                "podLabels": {"team": "x"},
                "podAnnotations": {"note": "y"},
                "maxUnavailable": None,
            },
            "host": {**_POOL, "cache": {"hostPath": "/srv/models"}},
            "managed": {**_POOL, "driver": "vllm-managed", "hostGb": 64, "cache": {"mountPath": "/models"}},
            "idle": {**_POOL, "replicas": 0, "cache": {"sizeLimit": "50Gi"}},
        }
    ),
    "logs, scrapes, foreign keys": base(
        airflow={
            "database": {"existingSecret": "db"},
            "dags": {"existingClaim": "d"},
            "logs": {"existingClaim": "l"},
            "nodeSelector": {"a": "b"},
            "tolerations": [{"operator": "Exists"}],
            "env": [{"name": "A", "value": "b"}],
        },
        signingKey={"existingSecret": "mine"},
        image={"pullSecrets": ["registry"]},
        networkPolicy={"monitoringNamespaceLabels": {"name": "monitoring"}},
        monitoring={"enabled": True, "tokenSecret": "reader", "labels": {"release": "prometheus"}},
    ),
    "rights of one's own": base(rbac={"create": False}, networkPolicy={"enabled": False}),
    **CLUSTERS,
}


@pytest.fixture(params=MATRIX, scope="module")
def values(request: pytest.FixtureRequest) -> Values:
    return MATRIX[request.param]


def test_helm_lint_is_content(helm: Helm, values: Values) -> None:
    helm("lint", "--strict", CHART, f"--kube-version={KUBERNETES}", values=values)


def test_objects_have_names_of_their_own_and_the_releases_labels(render: Render, values: Values) -> None:
    objects = render(values).objects
    keys = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects]
    assert len(keys) == len(set(keys))
    for manifest in objects:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "r", manifest["metadata"]["name"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm", manifest["metadata"]["name"]


def test_selectors_select_their_own_pods_and_no_others(render: Render, values: Values) -> None:
    rendered = render(values)
    for manifest in rendered.objects:
        spec = manifest.get("spec") or {}
        selector: Values = spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector)
        if manifest["kind"] in ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget"):
            hits = {at for at, pod in rendered.pods().items() if wanted.items() <= pod["metadata"]["labels"].items()}
            assert len(hits) == 1, (manifest["kind"], manifest["metadata"]["name"], hits)
            if manifest["kind"] in ("Deployment", "StatefulSet"):
                assert hits == {f"{manifest['kind']}/{manifest['metadata']['name']}"}


def test_every_mount_has_its_volume(render: Render, values: Values) -> None:
    for at, pod in render(values).pods().items():
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        volumes |= {"data"} if at.startswith("StatefulSet/") else set()
        used = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", ())}
        assert used == volumes, at


def test_what_pods_name_is_part_of_the_release_or_of_the_values(render: Render, values: Values) -> None:
    rendered = render(values)
    names = {kind: set(rendered.of(kind)) for kind in ("ConfigMap", "Secret", "ServiceAccount")}
    given = {"db", "redis", "mine", "hub", "engine-key", "d", "fate-keys", "fate-database", *NUMBERS_TO_YAML}
    for at, pod in rendered.pods().items():
        spec = pod["spec"]
        assert spec.get("serviceAccountName", "default") in names["ServiceAccount"] | {"default"}, at
        for kind, name in references(spec):
            assert name in names[kind] | given | {"kube-root-ca.crt"}, (at, kind, name)


def test_only_who_needs_kubernetes_gets_a_token(render: Render, values: Values) -> None:
    """Engines and Airflow's other parts run other people's code."""
    for at, pod in render(values).pods().items():
        spec = pod["spec"]
        with_token = {
            container["name"]
            for container in containers(pod)
            if any(m["name"] == "api-token" for m in container["volumeMounts"])
        }
        if at.endswith(("-scheduler", "-test")):
            assert spec["serviceAccountName"] == "r-fate-scheduler"
        else:
            assert spec["automountServiceAccountToken"] is False, at
            assert with_token == ({"gateway"} & {container["name"] for container in containers(pod)}), at


@pytest.mark.parametrize("name", [name for name in MATRIX if name != "nobody says who runs"])
def test_own_images_run_without_privileges(render: Render, name: str) -> None:
    for at, pod in render(MATRIX[name]).pods().items():
        for container in containers(pod):
            if container["name"] != "engine":
                context = {**pod["spec"].get("securityContext", {}), **container["securityContext"]}
                assert context["runAsNonRoot"] is True, (at, container["name"])
                assert context["allowPrivilegeEscalation"] is False, (at, container["name"])
                assert context["capabilities"] == {"drop": ["ALL"]}, (at, container["name"])


def containers(pod: Values) -> list[Values]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def references(node: Any) -> set[tuple[str, str]]:
    """ConfigMaps and Secrets that a pod's spec names."""
    named: set[tuple[str, str]] = set()
    if isinstance(node, list):
        for value in node:
            named |= references(value)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("configMap", "configMapRef"):
                named.add(("ConfigMap", value["name"]))
            elif key == "secret":
                named.add(("Secret", value["secretName"]))
            elif key == "secretKeyRef":
                named.add(("Secret", value["name"]))
            named |= references(value)
    return named
