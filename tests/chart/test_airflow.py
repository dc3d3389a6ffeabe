"""Airflow in the release, or beside it: its settings, its rights, its database."""

from __future__ import annotations

import base64

import yaml

from airflow_fate.provider_info import get_provider_info
from tests.chart.conftest import Render, Rendered, Values, base


def settings(rendered: Rendered) -> dict[str, str]:
    data: dict[str, str] = rendered.one("ConfigMap", "r-fate-airflow")["data"]
    return data


def engine_pods(rendered: Rendered, selector: str) -> set[str]:
    """Pods that a selector of the forms ``key=value`` and ``key`` selects."""
    wanted = [requirement.partition("=") for requirement in selector.split(",")]
    return {
        at
        for at, pod in rendered.pods().items()
        if all(key in (labels := pod["metadata"]["labels"]) and value in ("", labels[key]) for key, _, value in wanted)
    }


def test_the_scheduler_watches_the_releases_engines_and_nothing_else(render: Render) -> None:
    rendered = render(base())
    env = settings(rendered)
    assert env["AIRFLOW__CORE__EXECUTOR"] == "airflow_fate.executor.FateExecutor"
    assert env["AIRFLOW__FATE__STATE_SOURCE"] == "kubernetes"
    assert env["AIRFLOW__FATE__NAMESPACE"] == "space"
    selected = engine_pods(rendered, env["AIRFLOW__FATE__POD_SELECTOR"])
    assert selected == {at for at in rendered.pods() if "-pool-" in at}
    accounts = {rendered.pods()[at]["spec"]["serviceAccountName"] for at in selected}
    assert accounts == {env["AIRFLOW__FATE__SERVICE_ACCOUNTS"]}


def test_what_the_chart_sets_of_fate_is_what_fate_knows(render: Render) -> None:
    known = get_provider_info()["config"]["fate"]["options"]
    inside = {key.removeprefix("AIRFLOW__FATE__").lower() for key in settings(render(base())) if "__FATE__" in key}
    beside = render(base(airflow={"enabled": False})).one("ConfigMap", "r-fate-official-airflow")["data"]["values.yaml"]
    assert inside | set(yaml.safe_load(beside)["config"]["fate"]) <= set(known)


def test_only_the_scheduler_has_the_signing_key(render: Render) -> None:
    holders = {
        at
        for at, pod in render(base()).pods().items()
        for container in pod["spec"]["containers"]
        if any(env["name"] == "AIRFLOW__FATE__GATEWAY_SECRET" for env in container.get("env", ()))
    }
    assert holders == {"Deployment/r-fate-scheduler"}


def test_what_users_set_wins_and_whole_numbers_stay_whole(render: Render) -> None:
    config = {"core": {"parallelism": 2000000, "load_examples": True}, "smtp": {"smtp_host": "mail"}}
    values = base(airflow={"database": {"existingSecret": "db"}, "config": config})
    env = settings(render(values | {"fate": {"settings": {"objective": "p95", "search_ms": 250.5}}}))
    assert env["AIRFLOW__CORE__PARALLELISM"] == "2000000"
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "true"
    assert env["AIRFLOW__SMTP__SMTP_HOST"] == "mail"
    assert (env["AIRFLOW__FATE__OBJECTIVE"], env["AIRFLOW__FATE__SEARCH_MS"]) == ("p95", "250.5")


def test_rights_are_the_least(render: Render) -> None:
    rendered = render(base())
    rules = {name: role["rules"] for kind in ("Role", "ClusterRole") for name, role in rendered.of(kind).items()}
    read = ["get", "list", "watch"]
    assert rules == {
        "r-fate-scheduler": [{"apiGroups": [""], "resources": ["pods"], "verbs": read}],
        "r-fate-space-nodes": [{"apiGroups": [""], "resources": ["nodes"], "verbs": read}],
        "r-fate-gateway": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}],
    }
    without = render(base(rbac={"readNodes": False}))
    assert not without.of("ClusterRole")
    assert not without.of("ClusterRoleBinding")


def test_kubernetes_executor_may_make_pods_that_know_what_workers_know(render: Render) -> None:
    rendered = render(base(airflow={"database": {"existingSecret": "db"}, "innerExecutor": "KubernetesExecutor"}))
    assert "create" in rendered.one("Role", "r-fate-workers")["rules"][0]["verbs"]
    template = yaml.safe_load(rendered.one("ConfigMap", "r-fate-worker")["data"]["pod_template.yaml"])
    assert template["spec"]["containers"][0]["name"] == "base"
    assert template["metadata"]["labels"]["fate-gateway-client"] == "r"
    scheduler = rendered.pods()["Deployment/r-fate-scheduler"]["spec"]["containers"][0]
    folder = settings(rendered)["AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"].rpartition("/")[0]
    assert folder in {mount["mountPath"] for mount in scheduler["volumeMounts"]}


def test_celery_has_workers_and_a_broker(render: Render) -> None:
    celery = {"brokerSecret": "redis", "replicas": 5}
    airflow: Values = {"database": {"existingSecret": "db"}, "innerExecutor": "CeleryExecutor", "celery": celery}
    rendered = render(base(airflow=airflow))
    assert rendered.one("Deployment", "r-fate-worker")["spec"]["replicas"] == 5
    for at in ("Deployment/r-fate-worker", "Deployment/r-fate-scheduler"):
        env = {variable["name"]: variable for variable in rendered.pods()[at]["spec"]["containers"][0]["env"]}
        assert env["AIRFLOW__CELERY__BROKER_URL"]["valueFrom"]["secretKeyRef"] == {"name": "redis", "key": "broker"}


def test_the_bundled_database_is_the_one_that_airflow_uses(render: Render) -> None:
    rendered = render(base(airflow={}, postgresql={"enabled": True}))
    secret = {
        key: base64.b64decode(value).decode() for key, value in rendered.one("Secret", "r-fate-airflow")["data"].items()
    }
    env = {
        variable["name"]: variable
        for variable in rendered.pods()["Deployment/r-fate-scheduler"]["spec"]["containers"][0]["env"]
    }
    url = env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]["value"]
    assert url == "postgresql+psycopg2://airflow:$(POSTGRES_PASSWORD)@r-fate-postgresql:5432/airflow"
    where = {"name": "r-fate-airflow", "key": "postgres-password"}
    assert env["POSTGRES_PASSWORD"]["valueFrom"]["secretKeyRef"] == where
    assert list(env).index("POSTGRES_PASSWORD") < list(env).index("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    server = rendered.pods()["StatefulSet/r-fate-postgresql"]["spec"]["containers"][0]
    assert where in [variable["valueFrom"]["secretKeyRef"] for variable in server["env"] if "valueFrom" in variable]
    assert secret["postgres-password"].isalnum(), "it becomes part of a URL"
    assert "r-fate-postgresql" in rendered.of("Service")
    assert len(secret["admin-password"]) == 24
    assert len(base64.urlsafe_b64decode(secret["fernet-key"])) == 32


def test_keys_are_long_enough_and_outlive_the_release(render: Render) -> None:
    secret = render(base()).one("Secret", "r-fate-gateways")
    assert len(base64.b64decode(secret["data"]["gateway-secret"])) >= 32
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    again = render(base(signingKey={"keepOnUninstall": False})).one("Secret", "r-fate-gateways")
    assert "annotations" not in again["metadata"]
    assert "r-fate-gateways" not in render(base(signingKey={"existingSecret": "mine"})).of("Secret")


def test_values_for_the_official_chart_say_what_the_built_in_airflow_is_told(render: Render) -> None:
    built_in = settings(render(base()))
    rendered = render(base(airflow={"enabled": False}, officialAirflow={"namespace": "flow"}))
    values = yaml.safe_load(rendered.one("ConfigMap", "r-fate-official-airflow")["data"]["values.yaml"])
    fate = {f"AIRFLOW__FATE__{key.upper()}": str(value) for key, value in values["config"]["fate"].items()}
    assert fate == {key: value for key, value in built_in.items() if key.startswith("AIRFLOW__FATE__")}
    assert values["config"]["core"]["executor"] == built_in["AIRFLOW__CORE__EXECUTOR"]
    key = values["scheduler"]["env"][0]["valueFrom"]["secretKeyRef"]
    assert key["name"] in rendered.of("Secret")
    assert values["scheduler"]["extraVolumes"][0]["configMap"]["name"] in rendered.of("ConfigMap")
    # Its scheduler may watch, its pods may reach gateways.
    account = {"kind": "ServiceAccount", "name": values["scheduler"]["serviceAccount"]["name"], "namespace": "flow"}
    assert account in rendered.one("RoleBinding", "r-fate-scheduler")["subjects"]
    assert account in rendered.one("ClusterRoleBinding", "r-fate-space-nodes")["subjects"]
    source = rendered.one("NetworkPolicy", "r-fate-pool-one")["spec"]["ingress"][0]["from"][0]
    assert source["podSelector"]["matchLabels"] == values["labels"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "flow"}
    assert not rendered.of("Job")


def test_only_who_uses_an_inference_pool_may_read_it(render: Render) -> None:
    def pools(rendered: Rendered) -> list[Values]:
        return [
            rule for rule in rendered.one("Role", "r-fate-scheduler")["rules"] if "inferencepools" in rule["resources"]
        ]

    assert pools(render(base())) == []
    (rule,) = pools(render(base(fate={"settings": {"inference_pool": "llama"}})))
    assert (rule["resourceNames"], rule["verbs"]) == (["llama"], ["get"])
