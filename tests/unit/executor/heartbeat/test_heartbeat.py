"""The cycle's robustness: one task's failure is not the others', and what ended elsewhere is forgotten here."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from airflow_fate.executor.frontier.frontier import Adopted, Claim, Frontier, Planned, Queued
from airflow_fate.executor.heartbeat.heartbeat import NO_FLEET, NO_PLANNER, Binder
from airflow_fate.executor.settings import read_settings
from airflow_fate.messages import UNFENCED, Binding, verify
from airflow_fate.physics.costs import CostParts
from airflow_fate.planner.plan import Assignment, Plan, Share
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.ledger import ClaimLost, Reservation
from airflow_fate.state.local import LocalFleet
from airflow_fate.state.tables import metadata
from airflow_fate.workflow import Stage, StageRef, Workflow
from tests.unit.executor.builders import SECRET, connections, report, reservation, view

OPTIONS = get_provider_info()["config"]["fate"]["options"]
VIEW = view(report("d0"), report("d1"))
WORKFLOW = Workflow("dag/run", {name: Stage(name, model="m") for name in "ab"})


@pytest.fixture
def frontier() -> Frontier:
    return Frontier(100.0)


@pytest.fixture
def binder(frontier: Frontier, monkeypatch: pytest.MonkeyPatch) -> Binder:
    chosen = {"gateway_secret": SECRET, "solver": "off"}
    values = {name: option["default"] for name, option in OPTIONS.items()} | chosen
    submitted: list[str] = []
    made = Binder(
        read_settings(values.__getitem__, 600.0),
        frontier,
        submitted.append,
        lambda *_: None,
        submitted.append,
        submitted.append,
        connections(),
    )
    made.submitted = submitted  # type: ignore[attr-defined]
    monkeypatch.setattr("airflow_fate.executor.heartbeat.heartbeat.write_binding", lambda *_: None)
    return made


def ti(name: str) -> Any:
    names = {"id": f"try-{name}", "dag_id": "dag", "run_id": "run", "task_id": name, "map_index": -1, "try_number": 1}
    return SimpleNamespace(ti=SimpleNamespace(**names, executor_config={}, context_carrier=None))


def claims(frontier: Frontier) -> list[Any]:
    for name in "ab":
        frontier.handle(Queued(f"try-{name}", name, StageRef("dag/run", name), 0.0))
    shares = {"a": "d0", "b": "d1"}
    plan = Plan(
        tuple(
            Assignment(StageRef("dag/run", name), "m", (Share(place, 1, CostParts()),), 0.0, 1.0)
            for name, place in shares.items()
        )
    )
    found = frontier.handle(Planned(plan, 1.0))
    assert all(isinstance(one, Claim) for one in found)
    return found


@pytest.mark.parametrize("error", [ClaimLost("taken"), RuntimeError("the database is away")])
def test_a_claim_that_fails_leaves_its_task_held_and_the_others_bound(
    binder: Binder, frontier: Frontier, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def claim(wanted: Reservation) -> Reservation:
        if wanted.task_id == "a":
            raise error
        return wanted

    monkeypatch.setattr(binder._ledger, "claim", claim)
    binder._carry_out(
        claims(frontier), VIEW, [], {f"try-{n}": ti(n) for n in "ab"}, 1.0, {WORKFLOW.id: WORKFLOW}, "fate"
    )
    assert [entry.ref.stage for entry in frontier.held()] == ["a"]
    assert binder.submitted == ["try-b"]  # type: ignore[attr-defined]


def test_a_binding_that_cannot_be_written_gives_its_devices_back(
    binder: Binder, frontier: Frontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []

    def fail(*_: Any) -> None:
        raise RuntimeError("no store")

    monkeypatch.setattr("airflow_fate.executor.heartbeat.heartbeat.write_binding", fail)
    monkeypatch.setattr(binder._ledger, "claim", lambda wanted: wanted)
    monkeypatch.setattr(binder._ledger, "release", lambda reservation_id, outcome: released.append(outcome))
    binder._carry_out(
        claims(frontier), VIEW, [], {f"try-{n}": ti(n) for n in "ab"}, 1.0, {WORKFLOW.id: WORKFLOW}, "fate"
    )
    assert released == ["handover failed", "handover failed"]
    assert len(frontier.held()) == 2


def test_what_another_scheduler_has_released_is_forgotten(binder: Binder, frontier: Frontier) -> None:
    frontier.handle(Adopted("try-a", "a", StageRef("dag/run", "a"), "r1", 0.0))
    binder._release_ended([], VIEW, 1.0)
    assert len(frontier) == 0


def test_gateways_are_told_once_that_a_group_has_lost_a_member(binder: Binder, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(binder._notifier, "ended", lambda urls, *more: told.append((*urls, *more)))
    whole, half = VIEW, replace(VIEW, fleet=replace(VIEW.fleet, groups={}))
    for seen in (whole, half, half):
        binder._end_broken([reservation("d0", "d1", place="g")], seen)
    assert told == [("http://127.0.0.1/d0", "http://127.0.0.1/d1", "r1", SECRET, "its group has lost a member")]


def test_a_task_that_cannot_be_submitted_gives_its_devices_back(
    binder: Binder, frontier: Frontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []

    def fail(ti_id: str) -> None:
        raise RuntimeError("no token")

    monkeypatch.setattr(binder, "_submit", fail)
    monkeypatch.setattr(binder._ledger, "claim", lambda wanted: wanted)
    monkeypatch.setattr(binder._ledger, "release", lambda reservation_id, outcome: released.append(outcome))
    binder._carry_out(
        claims(frontier), VIEW, [], {f"try-{n}": ti(n) for n in "ab"}, 1.0, {WORKFLOW.id: WORKFLOW}, "fate"
    )
    assert released == ["handover failed", "handover failed"]
    assert len(frontier.held()) == 2


# Without a fleet, without tables


def held(frontier: Frontier, now: float) -> dict[str, Any]:
    """One task that Airflow queued long enough ago to be told why it waits."""
    task = ti("a")
    task.ti.executor_config = {"fate": {"model": "m", "version": 1}}
    task.ti.dag_version_id = "v"
    frontier.handle(Queued("try-a", "a", StageRef("dag/run", "a"), now - 10))
    return {"try-a": task}


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Airflow's database, not migrated for FATE."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    monkeypatch.setattr("airflow.settings.engine", engine)
    return engine


def test_without_a_fleet_a_task_waits_and_is_told_what_to_look_at(
    binder: Binder, frontier: Frontier, database: Engine, tmp_path: Path
) -> None:
    metadata.create_all(database)
    told: list[str] = []
    binder._tell = lambda ti_id, text: told.append(text)
    binder._source = LocalFleet(tmp_path / "nowhere")
    binder.cycle(held(frontier, time.time()))
    assert told == [NO_FLEET]
    assert len(frontier.held()) == 1


def test_while_all_devices_are_away_a_task_waits_and_is_told_what_to_do(
    binder: Binder, frontier: Frontier, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata.create_all(database)
    told: list[str] = []
    binder._tell = lambda ti_id, text: told.append(text)
    away = view(report("d0"), report("d1"), unusable=frozenset({"d0", "d1"}))
    monkeypatch.setattr(binder._source, "snapshot", lambda: away)
    binder.cycle(held(frontier, time.time()))
    (text,) = told
    assert text.startswith("none of the 2 devices of the fleet may get tasks now")
    assert "fate fleet up" in text


def test_while_the_planner_is_loaded_the_scheduler_goes_on_and_a_task_waits(
    binder: Binder, frontier: Frontier, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    loaded = threading.Event()
    binder._tell = lambda ti_id, text: told.append(text)
    monkeypatch.setattr("airflow_fate.planner.warm.warm", loaded.wait)
    monkeypatch.setattr(binder._source, "snapshot", lambda: VIEW)
    monkeypatch.setattr(binder._memory._runs, "read", lambda wanted: {})
    workloads = held(frontier, time.time())
    binder.start()
    try:
        binder.cycle(workloads)
        assert (told, binder.submitted) == ([NO_PLANNER], [])  # type: ignore[attr-defined]
        loaded.set()
        binder._loading.join()
        binder._planned_at = 0.0
        binder.cycle(workloads)
        assert binder.submitted == ["try-a"]  # type: ignore[attr-defined]
    finally:
        loaded.set()
        binder.stop()


def test_without_tables_a_task_is_bound_unfenced_and_warned(
    binder: Binder, frontier: Frontier, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings: list[Binding] = []
    monkeypatch.setattr(
        "airflow_fate.executor.heartbeat.heartbeat.write_binding", lambda _, binding: bindings.append(binding)
    )
    monkeypatch.setattr(binder._source, "snapshot", lambda: VIEW)
    monkeypatch.setattr(binder._memory._runs, "read", lambda wanted: {})
    binder.cycle(held(frontier, time.time()))
    assert binder.submitted == ["try-a"]  # type: ignore[attr-defined]
    (binding,) = bindings
    (share,) = binding.shares
    claims = verify(share.token, SECRET, (share.device,))
    assert (claims.fence, claims.live) == (UNFENCED, ())
    assert "run `airflow db migrate`" in binding.warning


def test_without_tables_a_device_is_not_given_twice(
    binder: Binder, frontier: Frontier, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_fate.executor.heartbeat.heartbeat.ended_tries", lambda ti_ids: {})
    monkeypatch.setattr(binder._source, "snapshot", lambda: view(report("d0")))
    monkeypatch.setattr(binder._memory._runs, "read", lambda wanted: {})
    workloads = held(frontier, time.time())
    other = ti("b")
    other.ti.executor_config, other.ti.dag_version_id = workloads["try-a"].ti.executor_config, "v"
    frontier.handle(Queued("try-b", "b", StageRef("dag/run", "b"), time.time()))
    binder.cycle(workloads | {"try-b": other})
    binder.cycle(workloads | {"try-b": other})
    assert len(binder.submitted) == 1  # type: ignore[attr-defined]
    assert len(frontier.held()) == 1


def test_tables_that_come_back_are_used_and_tasks_of_the_standby_forgotten(
    binder: Binder, frontier: Frontier, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binder._source, "snapshot", lambda: VIEW)
    monkeypatch.setattr(binder._memory._runs, "read", lambda wanted: {})
    binder.cycle(held(frontier, time.time()))
    assert len(frontier.running()) == 1
    metadata.create_all(database)
    binder._store.doubt()
    binder._planned_at = 0.0
    binder.cycle({})
    assert len(frontier) == 0
    assert binder._store.failure == ""


def test_tables_that_get_lost_are_missed_with_the_next_cycle(
    binder: Binder, frontier: Frontier, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata.create_all(database)
    monkeypatch.setattr(binder._source, "snapshot", lambda: VIEW)
    monkeypatch.setattr(binder._memory._runs, "read", lambda wanted: {})
    binder.cycle({})
    metadata.drop_all(database)
    workloads = held(frontier, time.time())
    with pytest.raises(DBAPIError):
        binder.cycle(workloads)
    binder.cycle(workloads)
    assert binder.submitted == ["try-a"]  # type: ignore[attr-defined]


def test_without_tables_nothing_is_known_of_what_a_dead_scheduler_ran(binder: Binder, database: Engine) -> None:
    assert binder.live_reservations() == {}
