"""Pools: what runs in their pods, who reaches them, and what gateways read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_fate.gateway.settings import GatewaySettings, LimitSettings, read_settings
from airflow_fate.state.fleetschema import ModelPart
from tests.chart.conftest import MODEL, Render, Rendered, Values, base

IMAGE = {"image": "vllm/vllm-openai:v0.24.0"}


def container(pod: Values, name: str) -> Values:
    spec: Values = next(container for container in pod["spec"]["containers"] if container["name"] == name)
    return spec


def test_a_pool_is_a_deployment_with_its_engine_and_a_gateway(render: Render) -> None:
    options: dict[str, Any] = {
        "models": ["small"],
        "replicas": 3,
        "gpus": 4,
        "engine": {**IMAGE, "args": ["--quantization=fp8"], "loadTimeoutS": 601},
        "sharedMemory": "16Gi",
        "cache": {"existingClaim": "weights"},
        "tokenSecret": {"name": "hub"},
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }
    deployment = render(base(pools={"p": options})).one("Deployment", "r-fate-pool-p")
    assert deployment["spec"]["replicas"] == 3
    pod = deployment["spec"]["template"]
    assert [container["name"] for container in pod["spec"]["containers"]] == ["engine", "gateway"]
    engine = container(pod, "engine")
    assert engine["args"] == [
        "--model=org/small",
        "--served-model-name=small",
        "--host=0.0.0.0",
        "--port=8000",
        '--kv-events-config={"enable_kv_cache_events":true,"endpoint":"tcp://*:5557","publisher":"zmq"}',
        "--max-model-len=8192",
        "--max-num-seqs=16",
        "--enable-prompt-tokens-details",
        "--tensor-parallel-size=4",
        "--quantization=fp8",
    ]
    assert engine["resources"]["limits"] == {"nvidia.com/gpu": 4}
    # Loading may take as long as it says, and no liveness probe interrupts it.
    startup = engine["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 601
    assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}} in engine["env"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["cache"]["persistentVolumeClaim"] == {"claimName": "weights"}
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in engine["volumeMounts"]
    assert pod["spec"]["nodeSelector"] == {"zone": "a"}
    assert pod["spec"]["tolerations"] == options["tolerations"]
    assert "limits" not in container(pod, "gateway").get("resources", {})


def test_an_engine_inside_the_gateway_gets_its_gpus_there(render: Render) -> None:
    pools = {"p": {"models": ["small"], "driver": "llamacpp", "gpus": 1}}
    pod = render(base(pools=pools)).pods()["Deployment/r-fate-pool-p"]
    assert [container["name"] for container in pod["spec"]["containers"]] == ["gateway"]
    assert container(pod, "gateway")["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_a_group_has_one_gateway_and_it_is_the_leaders(render: Render) -> None:
    rendered = render(base())
    group = rendered.one("LeaderWorkerSet", "r-fate-pool-wide")["spec"]["leaderWorkerTemplate"]
    assert group["size"] == 2
    assert [container["name"] for container in group["leaderTemplate"]["spec"]["containers"]] == ["engine", "gateway"]
    assert [container["name"] for container in group["workerTemplate"]["spec"]["containers"]] == ["engine"]
    worker = container(group["workerTemplate"], "engine")
    assert worker["command"][:2] == ["ray", "start"]
    assert "args" not in worker
    assert "startupProbe" not in worker


def settings_of(rendered: Rendered, pool: str, folder: Path) -> GatewaySettings:
    """What the gateway of such a pod reads."""
    gateway = container(rendered.pods()[f"Deployment/r-fate-pool-{pool}"], "gateway")
    (folder / "fleet.json").write_text(rendered.one("ConfigMap", f"r-fate-pool-{pool}")["data"]["fleet.json"])
    environment = {"POD_NAME": "pod-1", "POD_IP": "10.0.0.7"}
    return read_settings(
        folder, "pod-1", {variable["name"]: environment.get(variable["name"], "gpu-1") for variable in gateway["env"]}
    )


@pytest.mark.parametrize(
    ("pool", "engine", "url", "events_url"),
    [("play", "simulated", "", ""), ("one", "vllm", "http://10.0.0.7:8000", "tcp://10.0.0.7:5557")],
)
def test_a_gateway_understands_what_the_chart_writes_for_it(
    render: Render, tmp_path: Path, pool: str, engine: str, url: str, events_url: str
) -> None:
    settings = settings_of(render(base()), pool, tmp_path)
    device = settings.device
    assert (device.node, device.port) == ("gpu-1", 8475)
    assert (device.engine, device.engine_url, device.events_url) == (engine, url, events_url)
    assert set(settings.servable_models) == {"small"}
    assert device.load_timeout_s == 1800


@pytest.mark.parametrize("driver", ["vllm", "openai"])
def test_an_engine_with_a_key_is_shown_it_by_its_gateway(render: Render, tmp_path: Path, driver: str) -> None:
    secret = {"name": "keys", "key": "k"}
    pool = {"models": ["small"], "driver": driver, "engine": {"image": "i"}, "apiKeySecret": secret}
    rendered = render(base(pools={"p": pool}))
    pod = rendered.one("Deployment", "r-fate-pool-p")["spec"]["template"]
    device = yaml.safe_load(rendered.one("ConfigMap", "r-fate-pool-p")["data"]["fleet.json"])["devices"]["$(POD_NAME)"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container(pod, "gateway")["volumeMounts"]}
    folder, _, name = device["engine_key_file"].rpartition("/")
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == mounted[folder]]
    assert volume["secret"] == {"secretName": "keys", "items": [{"key": "k", "path": name}]}
    variables = {variable["name"]: variable.get("valueFrom") for variable in container(pod, "engine")["env"]}
    wanted = {"secretKeyRef": {"name": "keys", "key": "k"}} if driver == "vllm" else None
    assert variables.get("VLLM_API_KEY") == wanted


def test_adapters_are_loaded_beside_their_base_model(render: Render, tmp_path: Path) -> None:
    models = {"small": MODEL, **{name: {**MODEL, "adapterOf": "small", "source": f"/{name}"} for name in ("x", "y")}}
    pools = {"p": {"models": ["x", "small", "y"], "engine": {**IMAGE, "eventsPort": 0}}}
    rendered = render(base(models=models, pools=pools))
    engine = container(rendered.pods()["Deployment/r-fate-pool-p"], "engine")
    assert "--served-model-name=small" in engine["args"]
    assert engine["args"][-2:] == ["--enable-lora", "--max-loras=2"]
    assert {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "True"} in engine["env"]
    settings = settings_of(rendered, "p", tmp_path)
    assert settings.device.events_url == ""
    assert {name: model.adapter for name, model in settings.servable_models.items()} == {
        "small": None,
        "x": "/x",
        "y": "/y",
    }


@pytest.mark.parametrize(("host_gb", "sleeps"), [(0, False), (64, True)])
def test_a_gateway_runs_vllm_itself(render: Render, tmp_path: Path, host_gb: int, sleeps: bool) -> None:
    models = {"small": MODEL, "other": {**MODEL, "source": "org/other"}}
    image = {"image": "mine", "args": ["--quantization=fp8"]}
    cache = {"mountPath": "/models"}
    pool = {"models": ["small", "other"], "driver": "vllm-managed", "engine": image, "cache": cache, "hostGb": host_gb}
    rendered = render(base(models=models, pools={"p": pool}))
    (only,) = rendered.pods()["Deployment/r-fate-pool-p"]["spec"]["containers"]
    assert (only["image"], only["resources"]["limits"]) == ("mine", {"nvidia.com/gpu": 1})
    assert {"name": "HF_HOME", "value": "/models"} in only["env"]
    settings = settings_of(rendered, "p", tmp_path)
    assert settings.device.engine_sleeps == sleeps
    assert settings.device.engine_command == (
        *("vllm", "serve", "--max-model-len=8192", "--max-num-seqs=16", "--enable-prompt-tokens-details"),
        *(["--enable-sleep-mode"] if sleeps else []),
        "--quantization=fp8",
    )
    assert {name: model.file for name, model in settings.servable_models.items()} == {
        "small": "org/small",
        "other": "org/other",
    }


def test_the_planner_understands_the_models_that_the_chart_writes(render: Render) -> None:
    models = yaml.safe_load(render(base()).one("ConfigMap", "r-fate-models")["data"]["models.yaml"])["models"]
    assert {name: ModelPart.model_validate(model).group_size for name, model in models.items()} == {
        "small": 1,
        "big": 2,
    }


def test_new_settings_of_a_gateway_are_new_pods_and_other_pools_stay(render: Render) -> None:
    before = render(base()).pods()
    after = render(base(pools={**base()["pools"], "play": {"models": ["small"], "driver": "simulated", "maxSeqs": 2}}))
    changed = {at for at, pod in after.pods().items() if "pool" in at and pod != before[at]}
    assert changed == {"Deployment/r-fate-pool-play"}


def test_nobody_but_airflow_reaches_a_gateway_and_nobody_an_engine(render: Render) -> None:
    rendered = render(base())
    rules = rendered.one("NetworkPolicy", "r-fate-pool-one")["spec"]["ingress"]
    assert [rule["ports"] for rule in rules] == [[{"port": 8475, "protocol": "TCP"}]]
    allowed = [peer["podSelector"]["matchLabels"] for peer in rules[0]["from"]]
    reaching = {
        at
        for at, pod in rendered.pods().items()
        if any(wanted.items() <= pod["metadata"]["labels"].items() for wanted in allowed)
    }
    pools = {at for at in reaching if "-pool-" in at}
    airflows = {"api-server", "scheduler", "dag-processor", "triggerer"}
    expected = {f"Deployment/r-fate-{part}" for part in airflows} | {"Pod/r-fate-test"}
    expected |= {f"Job/{name}" for name in rendered.of("Job")}
    assert reaching - pools == expected
    # Gateways fetch outputs from each other; a group's workers have none.
    assert not any(at.endswith("/worker") for at in pools)


def test_the_members_of_a_group_reach_each_other(render: Render) -> None:
    rules = render(base()).one("NetworkPolicy", "r-fate-pool-wide")["spec"]["ingress"]
    labels = rules[1]["from"][0]["podSelector"]["matchLabels"]
    assert labels["fate-pool"] == "wide"
    assert "ports" not in rules[1]


def test_disruptions_are_bounded(render: Render) -> None:
    pool: Values = {"models": ["small"], "engine": IMAGE}
    pools = {"a": pool, "b": {**pool, "maxUnavailable": None}}
    budgets = render(base(pools=pools)).of("PodDisruptionBudget")
    assert {name: budget["spec"]["maxUnavailable"] for name, budget in budgets.items()} == {"r-fate-pool-a": 1}


def test_defaults_of_pools_are_overridden_deeply(render: Render) -> None:
    values = base(poolDefaults={"gpu": "A100", "engine": {**IMAGE, "port": 9000}})
    values["pools"] = {"p": {"models": ["small"], "engine": {"port": 9001}}}
    engine = container(render(values).pods()["Deployment/r-fate-pool-p"], "engine")
    assert (engine["image"], engine["ports"][0]["containerPort"]) == (IMAGE["image"], 9001)


def test_metrics_are_scraped_with_a_token_on_request(render: Render) -> None:
    assert not render(base()).of("PodMonitor")
    monitor = render(base(monitoring={"enabled": True, "tokenSecret": "reader"})).one("PodMonitor", "r-fate-gateways")
    endpoint = monitor["spec"]["podMetricsEndpoints"][0]
    assert endpoint["port"] == "gateway"
    assert endpoint["authorization"]["credentials"] == {"name": "reader", "key": "token"}


def test_limits_of_gateways_are_what_they_read(render: Render, tmp_path: Path) -> None:
    pools = {"p": {"models": ["small"], "engine": {"image": "i"}}}
    rendered = render(base(pools=pools, gateway={"limits": {"body_mb": 16, "queued": 1000000}}))
    limits = settings_of(rendered, "p", tmp_path).fleet.limits
    assert limits == LimitSettings(body_mb=16, queued=1000000)
