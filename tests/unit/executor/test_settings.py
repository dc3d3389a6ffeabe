"""The ``[fate]`` section: defaults work, and a bad value is named with the form it should have."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_fate.executor.settings import Settings, SettingsError, read_settings
from airflow_fate.executor.sources import open_source
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.kubernetes.source import KubernetesFleet
from airflow_fate.state.local import LocalFleet

DEFAULTS = {name: option["default"] for name, option in get_provider_info()["config"]["fate"]["options"].items()}


def read(**changed: str) -> Settings:
    return read_settings(lambda key: {**DEFAULTS, **changed}[key], queued_timeout_s=600.0)


def test_the_defaults_are_valid() -> None:
    settings = read()
    assert settings.inner_executor == "LocalExecutor"
    assert settings.hold_limit_s == 300.0


def test_every_option_is_described_with_type_default_and_example() -> None:
    options = get_provider_info()["config"]["fate"]["options"]
    for name, option in options.items():
        assert option["description"], name
        assert {"type", "default", "example"} <= option.keys(), name


@pytest.mark.parametrize(
    ("key", "value", "form"),
    [
        ("policy", "fastest", "no policy 'fastest'; there are fate, round_robin"),
        ("solver", "gurobi", "must be one of search, off"),
        ("objective", "money", "must be one of makespan, mean, p95, balanced"),
        ("state_source", "etcd", "must be one of local, kubernetes"),
        ("gateway_port", "70000", "must be a port, at most 65535"),
        ("pod_stale_after_s", "0", "must be a number >= 1"),
        ("search_ms", "-3", "must be a number >= 1"),
        ("max_frontier", "1.5", "must be a whole number >= 1"),
        ("stale_after_s", "nan", "must be a number >= 1"),
        ("tenants", "[1]", "a JSON object of tenants with their DAG bundles"),
        ("tenants", '{"a": "b"}', "a JSON object of tenants with their DAG bundles"),
        ("price_per_gpu_hour", "cheap", "must be a number >= 0, or a JSON object of such numbers by GPU"),
        ("budgets", "{}", "must be a JSON list of objects with `dag` or `tenant`"),
        ("inner_executor", "airflow_fate.executor.FateExecutor", "must be one executor but FateExecutor"),
    ],
)
def test_a_bad_value_is_named_with_its_form(key: str, value: str, form: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[fate\] {key}") as caught:
        read(**{key: value})
    assert form in str(caught.value)
    assert value in str(caught.value)


@pytest.mark.parametrize(
    ("tenant", "bundle", "refused"),
    [("finance", "a", False), ("finance", "b", True), ("unlisted", "a", True), ("", "b", False)],
)
def test_who_may_use_a_tenants_name_is_a_rule(tenant: str, bundle: str, refused: bool) -> None:
    assert bool(read(tenants='{"finance": ["a"]}').refused_tenant(tenant, bundle)) is refused


def test_without_a_rule_every_dag_may_use_any_tenants_name() -> None:
    assert read().refused_tenant("finance", "b") == ""


def test_the_key_is_read_from_the_fleet_when_it_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("k" * 64 + "\n")
    assert read(fleet_dir=str(tmp_path)).secret() == "k" * 64
    assert read(fleet_dir=str(tmp_path), gateway_secret="g" * 40).secret() == "g" * 40


def test_a_missing_key_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fate fleet up --dir"):
        read(fleet_dir=str(tmp_path)).secret()


def test_on_kubernetes_the_models_come_from_a_file() -> None:
    with pytest.raises(SettingsError, match="models_file must name a YAML file"):
        read(state_source="kubernetes")
    settings = read(state_source="kubernetes", models_file="~/models.yaml", service_accounts="a, b")
    assert settings.models_file == Path("~/models.yaml").expanduser()
    assert settings.service_accounts == {"a", "b"}
    assert settings.kubeconfig is None


def test_each_state_source_is_opened_by_its_name() -> None:
    assert isinstance(open_source(read()), LocalFleet)
    on_kubernetes = open_source(read(state_source="kubernetes", models_file="models.yaml"))
    assert isinstance(on_kubernetes, KubernetesFleet)
    assert on_kubernetes.snapshot().fleet.places == (), "nothing is known, and asked for, before it is started"


def test_a_budget_in_money_needs_a_price() -> None:
    budget = '[{"dag": "*", "per": "run", "money": 5, "action": "warn"}]'
    with pytest.raises(SettingsError, match=r"\[fate\] price_per_gpu_hour must say what a GPU costs"):
        read(budgets=budget)
    assert read(budgets=budget, price_per_gpu_hour="2.5").prices.money("any", 3600.0) == 2.5
