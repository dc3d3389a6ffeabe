"""Who may read what: no route without a login, none with one that isn't allowed, and no other's DAG."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.core_api import security
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

from airflow_fate.executor.settings import SettingsError
from airflow_fate.plugin import app as page
from airflow_fate.plugin.watch import FleetWatch
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.source import FleetView
from airflow_fate.state.tables import metadata
from tests.unit.plugin.builders import fleet_of, reservation

ROUTES = page.app.routes
NEEDS = {"run_id": "r", "task_id": "ask"}


class Manager:
    """An auth manager under which some may do some things."""

    def __init__(self, *, views: bool = False, dags: frozenset[str] = frozenset()) -> None:
        self._views = views
        self._dags = dags

    def is_authorized_view(self, **_: Any) -> bool:
        return self._views

    def is_authorized_dag(self, *, details: Any, **_: Any) -> bool:
        return details.id in self._dags


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(DagModel, "get_team_name", staticmethod(lambda dag_id: None))
    yield TestClient(page.app)
    page.app.dependency_overrides.clear()


def logged_in(monkeypatch: pytest.MonkeyPatch, manager: Manager) -> None:
    page.app.dependency_overrides[get_user] = lambda: SimpleNamespace(username="somebody")
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)


def address(route: APIRoute) -> str:
    return route.path.replace("{name}", "fleet.js").replace("{dag_id}", "d")


def test_all_that_is_there_are_routes_with_dependencies_of_their_own() -> None:
    """A mount or a plain route would take none."""
    assert [route for route in ROUTES if not isinstance(route, APIRoute)] == []


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_no_route_answers_without_a_login(client: TestClient, route: APIRoute) -> None:
    assert client.get(address(route), params=NEEDS).status_code == 401


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if "/static/" not in getattr(route, "path", "")], ids=lambda route: route.path
)
def test_no_data_is_for_whoever_is_merely_logged_in(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, route: APIRoute
) -> None:
    logged_in(monkeypatch, Manager())
    assert client.get(address(route), params=NEEDS).status_code == 403


def test_a_viewer_of_one_dag_sees_no_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    metadata.create_all(engine)
    connect = partial(transaction, engine)
    ledger = Ledger(connect)
    ledger.register({"gpu-0": 2})
    ledger.claim(reservation())
    ledger.claim(reservation(id="r2", ti_id="t2", dag_id="secret"))
    monkeypatch.setattr(page, "connect", connect)
    logged_in(monkeypatch, Manager(dags=frozenset({"d"})))
    asked = {"run_id": "r", "task_id": "ask"}
    own = client.get("/api/dags/d/receipts", params=asked).json()
    assert [receipt["dag_id"] for receipt in own["receipts"]] == ["d"]
    assert client.get("/api/dags/secret/receipts", params=asked).status_code == 403
    assert client.get("/api/dags/d/receipts", params=asked | {"dag_id": "secret"}).json() == own


def test_the_fleet_is_shown_to_who_may_see_jobs(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in(monkeypatch, Manager(views=True))
    monkeypatch.setattr(page, "watch", SimpleNamespace(look=lambda: (fleet_of(3), 10.0)))
    shown = client.get("/api/fleet", params={"limit": 2}).json()
    assert shown["states"] == {"ready": 3}
    assert [row["device"] for row in shown["devices"]] == ["gpu-0000", "gpu-0001"]


def test_settings_that_cant_be_used_are_told_in_their_words(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise SettingsError("[fate] stale_after_s must be a number")

    logged_in(monkeypatch, Manager(views=True))
    monkeypatch.setattr(page, "watch", SimpleNamespace(look=fails))
    answer = client.get("/api/fleet")
    assert (answer.status_code, answer.json()["detail"]) == (503, "[fate] stale_after_s must be a number")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "app.py"])
def test_only_the_front_ends_own_files_are_served(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    logged_in(monkeypatch, Manager())
    assert client.get(f"/static/{name}").status_code == 404


def test_the_fleet_is_watched_once_and_only_when_somebody_looks() -> None:
    opened: list[object] = []
    settings: Any = SimpleNamespace(state_source="local", stale_after_s=7.0)

    def opens(_: object) -> Any:
        opened.append(_)
        return SimpleNamespace(start=lambda: None, snapshot=lambda: FleetView(fleet_of(1).fleet))

    watch = FleetWatch(lambda: settings, opens)
    assert opened == []
    assert [watch.look()[1] for _ in range(2)] == [7.0, 7.0]
    assert opened == [settings]
