"""What the checks see, and what they say is to be done."""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine

from airflow_fate.doctor import cluster, gateways
from airflow_fate.doctor.clock import ahead_s, check_clock
from airflow_fate.doctor.database import check_database
from airflow_fate.doctor.finding import Finding, Grade
from airflow_fate.doctor.fleet import check_fleet
from airflow_fate.doctor.versions import check_versions
from airflow_fate.kube.credentials import CredentialsError
from airflow_fate.messages import verify
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.source import FleetView
from airflow_fate.state.tables import metadata
from tests.unit.executor.builders import SECRET, report, reservation, view


def grades(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: str(finding.grade) for finding in findings}


def test_versions_that_go_together() -> None:
    assert check_versions().grade is Grade.OK


def test_a_healthy_fleet() -> None:
    findings = check_fleet(view(report("d0", serves=["m"]), report("d1", serves=["m"])), 10.0, "")
    assert set(grades(findings).values()) == {"ok"}


def test_without_devices_the_first_check_says_how_they_come() -> None:
    findings = check_fleet(FleetView(view().fleet.__class__({}, {}, {})), 10.0, "fate fleet up")
    assert (findings[0].grade, findings[0].remedy) == (Grade.FAILURE, "fate fleet up")
    assert {finding.grade for finding in findings[1:]} == {Grade.NOT_CHECKED}


@pytest.mark.parametrize(
    ("seen", "check", "grade"),
    [
        (view(report("d0"), report("d1"), unusable=frozenset({"d1"})), "devices", "warning"),
        (view(report("d0"), report("d1"), unusable=frozenset({"d0", "d1"})), "devices", "failure"),
        (view(report("d0")), "signals", "warning"),
        (view(report("d0"), report("d1", version=99)), "signals", "warning"),
        (view(report("d0", serves=["other"]), report("d1", serves=["other"])), "models", "warning"),
        (view(report("d0", serves=[]), report("d1", serves=[])), "models", "warning"),
    ],
)
def test_what_is_wrong_with_a_fleet(seen: FleetView, check: str, grade: str) -> None:
    assert grades(check_fleet(seen, 10.0, ""))[check] == grade


def test_models_that_no_gpu_has_speeds_for_are_told_in_both_spellings() -> None:
    seen = view(report("d0", serves=["m"]), report("d1", serves=["m"]))
    devices = {name: replace(device, gpu="NVIDIA-X", also="X") for name, device in seen.fleet.devices.items()}
    finding = check_fleet(replace(seen, fleet=replace(seen.fleet, devices=devices)), 10.0, "")[-1]
    assert (finding.check, finding.grade) == ("models", Grade.FAILURE)
    assert "m has no speeds for NVIDIA-X (X to its gateway); those known are for cpu" in finding.seen
    tight = {name: replace(device, memory_bytes=1.0) for name, device in seen.fleet.devices.items()}
    finding = check_fleet(replace(seen, fleet=replace(seen.fleet, devices=tight)), 10.0, "")[-1]
    assert (finding.grade, "m needs 1.0 GB; the largest device has 0.0 GB" in finding.seen) == (Grade.FAILURE, True)


def test_a_gateways_model_that_the_planner_does_not_know_is_not_counted() -> None:
    finding = check_fleet(view(report("d0", serves=["m", "other"]), report("d1", serves=["other"])), 10.0, "")[-1]
    assert (finding.grade, finding.seen) == (Grade.OK, "1 of 1 have a device")


def test_clocks_far_apart_are_told() -> None:
    late = ahead_s(formatdate(time.time() - 300, usegmt=True))
    finding = check_clock("clock", {"here": 0.0, "there": late, "silent": None})
    assert finding.grade is Grade.WARNING
    assert "there is 300 s behind" in finding.seen or "there is 301 s behind" in finding.seen


def test_the_ledger_must_agree_with_itself(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    connect = partial(transaction, engine)
    assert grades(check_database(connect)) == {"database": "failure", "reservations": "not checked"}
    metadata.create_all(engine)
    ledger = Ledger(connect)
    ledger.register({"d0": 1})
    ledger.claim(reservation("d0", claimed_at=time.time(), finish_at=time.time() + 5))
    assert grades(check_database(connect)) == {"database": "ok", "reservations": "ok"}
    with connect() as connection:
        connection.exec_driver_sql("UPDATE fate_device SET used = 0")
    assert grades(check_database(connect))["reservations"] == "failure"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"stranger": 401, "friend": 200}, ""),
        ({"stranger": 401, "friend": 401}, "refuses our key"),
        ({"stranger": 404, "friend": 404}, "answers strangers"),
        ({}, "can't be reached"),
    ],
)
async def test_gateways(monkeypatch: pytest.MonkeyPatch, answers: dict[str, int], says: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ConnectError("refused")
        token = request.headers.get("authorization", "")
        if token:
            verify(token.removeprefix("Bearer "), SECRET, ("fleet",))
        return httpx.Response(answers["friend" if token else "stranger"])

    usual = partial(httpx.AsyncClient, transport=httpx.MockTransport(answer))
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: usual())
    finding, _ = await gateways.check_gateways({"d0": "http://gateway"}, SECRET)
    assert finding.grade is (Grade.FAILURE if says else Grade.OK)
    assert says in finding.seen


class FakeApi:
    """An API server that allows some things."""

    date = ""

    def __init__(self, allowed: set[tuple[str, str]]) -> None:
        self._allowed = allowed

    async def create(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        asked = item["spec"]["resourceAttributes"]
        return {"status": {"allowed": (asked["verb"], asked["resource"]) in self._allowed}}


ALL = {(verb, kind) for verb in ("list", "watch") for kind in ("pods", "nodes")}


@pytest.mark.parametrize(
    ("allowed", "grade"),
    [(ALL, "ok"), (ALL - {("watch", "nodes")}, "warning"), (ALL - {("watch", "pods")}, "failure")],
)
async def test_permissions(allowed: set[tuple[str, str]], grade: str) -> None:
    finding = await cluster._check_permissions(FakeApi(allowed), "ns")  # type: ignore[arg-type]
    assert finding.grade == grade


async def test_without_credentials_the_rest_is_not_checked() -> None:
    findings = await cluster.check_cluster(CredentialsError("no token"), "")
    assert grades(findings) == {"API server": "failure", "permissions": "not checked", "cluster clock": "not checked"}
