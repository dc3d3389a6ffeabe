"""The plugin that Airflow loads: its views are files that are there, and it costs other processes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys

from fastapi.testclient import TestClient

from airflow_fate.plugin.app import FILES
from airflow_fate.plugin.register import PREFIX, FatePlugin

LOADED = "import sys; before = set(sys.modules); import airflow_fate.plugin.register; print(set(sys.modules) - before)"


def test_each_view_has_a_name_and_a_route_of_its_own_and_a_file_that_is_there() -> None:
    views = FatePlugin.react_apps
    assert len({view["name"] for view in views}) == len({view["url_route"] for view in views}) == len(views)
    assert {view["bundle_url"].removeprefix(f"{PREFIX}/static/") for view in views} <= set(FILES)


def test_its_app_asks_for_a_login() -> None:
    (mounted,) = FatePlugin.fastapi_apps
    assert TestClient(mounted["app"]).get("/api/fleet").status_code == 401


def test_a_process_that_only_loads_it_imports_no_server() -> None:
    """Each task's process does, before its task may begin."""
    begins = f"import airflow.plugins_manager; {LOADED}"
    loaded = subprocess.run([sys.executable, "-c", begins], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(loaded) <= {"airflow_fate", "airflow_fate.plugin", "airflow_fate.plugin.register"}
