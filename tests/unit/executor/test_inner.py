"""The inner executor is selectable by name, and one that can't be had says which package is missing."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from airflow.executors.base_executor import BaseExecutor

from airflow_fate.executor.inner import load_inner
from airflow_fate.executor.settings import SettingsError

KUBERNETES = "airflow.providers.cncf.kubernetes.executors.kubernetes_executor"


class Plain(BaseExecutor):
    """Any executor."""


class NoExecutor:
    def __init__(self, parallelism: int) -> None:
        pass


@pytest.mark.parametrize("name", ["LocalExecutor", "CeleryExecutor"])
def test_airflows_executors_go_by_their_names(name: str) -> None:
    inner = load_inner(name, 3)
    assert (type(inner).__name__, inner.parallelism) == (name, 3)


def test_any_executor_goes_by_its_path() -> None:
    assert type(load_inner(f"{__name__}.Plain", 3)) is Plain


def test_the_kubernetes_executor_goes_by_its_name_where_its_provider_is(monkeypatch: pytest.MonkeyPatch) -> None:
    if not importlib.util.find_spec("airflow.providers.cncf"):
        # A stand-in for the provider's module: that the name leads there is ours.
        module = ModuleType(KUBERNETES)
        module.KubernetesExecutor = type("KubernetesExecutor", (Plain,), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, KUBERNETES, module)
        for at in range(3, KUBERNETES.count(".") + 1):
            parent = ".".join(KUBERNETES.split(".")[:at])
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    assert type(load_inner("KubernetesExecutor", 3)).__name__ == "KubernetesExecutor"


@pytest.mark.parametrize(
    ("name", "hidden", "package"),
    [
        ("CeleryExecutor", "airflow.providers.celery.executors.celery_executor", "apache-airflow-providers-celery"),
        ("KubernetesExecutor", KUBERNETES, "apache-airflow-providers-cncf-kubernetes"),
    ],
)
def test_a_missing_provider_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str, hidden: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(SettingsError, match=rf"\[fate\] inner_executor '{name}' can't be loaded") as caught:
        load_inner(name, 3)
    assert f"install {package}" in str(caught.value)


@pytest.mark.parametrize("name", ["SpeedyExecutor", "no.such.Executor", f"{__name__}.Missing"])
def test_a_name_that_is_none_says_which_there_are(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[fate\] inner_executor '{name}'") as caught:
        load_inner(name, 3)
    assert "LocalExecutor, CeleryExecutor, KubernetesExecutor, or the path" in str(caught.value)


def test_a_class_that_is_no_executor_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"\[fate\] inner_executor must name an executor"):
        load_inner(f"{__name__}.NoExecutor", 3)
