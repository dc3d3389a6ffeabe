"""Every setting is described, with a default that can be used, and the docs say the same."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_fate.executor.settings import Settings, read_settings
from airflow_fate.provider_info import OPTIONS
from tests.configuration import DOCUMENT, table

ELSEWHERE = {"xcom_limit_bytes"}
"""Read by tasks, not by the executor."""
RENAMED = {"search_ms": "search_s", "keep_days": "keep_s", "price_per_gpu_hour": "prices"}


def test_the_page_is_what_the_package_says() -> None:
    assert f"\n\n{table()}\n" in DOCUMENT.read_text(encoding="utf-8"), "write it anew: python -m tests.configuration"


def test_every_setting_is_read_and_every_one_that_is_read_is_described() -> None:
    asked: set[str] = set()

    def get(key: str) -> str:
        asked.add(key)
        return str(OPTIONS[key]["default"])

    settings = read_settings(get, 600.0)
    assert asked == set(OPTIONS) - ELSEWHERE
    fields = {field.name for field in dataclasses.fields(Settings)} - {"hold_limit_s"}
    assert fields == {RENAMED.get(key, key) for key in asked}
    assert settings.policy == "fate"


@pytest.mark.parametrize("key", OPTIONS)
def test_the_example_can_be_used(key: str) -> None:
    if key in ELSEWHERE:
        assert int(OPTIONS[key]["example"]) > 0
        return

    def get(name: str) -> str:
        other = "/etc/fate/models.yaml" if (key, name) == ("state_source", "models_file") else OPTIONS[name]["default"]
        return str(OPTIONS[name]["example"] if name == key else other)

    read_settings(get, 600.0)


@pytest.mark.parametrize("key", OPTIONS)
def test_a_setting_has_a_type_a_default_and_a_meaning(key: str) -> None:
    option = OPTIONS[key]
    assert option["type"] in ("string", "integer", "float")
    assert option["description"].endswith(".")
    if option["type"] != "string":
        float(option["default"])
