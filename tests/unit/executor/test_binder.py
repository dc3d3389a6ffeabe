"""The cycle's robustness: one task's failure is not the others', and what ended elsewhere is forgotten here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_fate.executor.binder import Binder
from airflow_fate.executor.frontier import Adopted, Claim, Frontier, Planned, Queued
from airflow_fate.executor.settings import read_settings
from airflow_fate.physics.costs import CostParts
from airflow_fate.planner.plan import Assignment, Plan, Share
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.ledger import ClaimLost, Reservation
from airflow_fate.workflow import Stage, StageRef, Workflow
from tests.unit.executor.builders import SECRET, report, reservation, view

OPTIONS = get_provider_info()["config"]["fate"]["options"]
VIEW = view(report("d0"), report("d1"))
WORKFLOW = Workflow("dag/run", {name: Stage(name, model="m") for name in "ab"})


@pytest.fixture
def frontier() -> Frontier:
    return Frontier(100.0)


@pytest.fixture
def binder(frontier: Frontier, monkeypatch: pytest.MonkeyPatch) -> Binder:
    values = {name: option["default"] for name, option in OPTIONS.items()} | {"gateway_secret": SECRET}
    submitted: list[str] = []
    made = Binder(
        read_settings(values.__getitem__, 600.0), frontier, submitted.append, lambda *_: None, submitted.append
    )
    made.submitted = submitted  # type: ignore[attr-defined]
    monkeypatch.setattr("airflow_fate.executor.binder.write_binding", lambda *_: None)
    return made


def ti(name: str) -> Any:
    names = {"id": f"try-{name}", "dag_id": "dag", "run_id": "run", "task_id": name, "map_index": -1, "try_number": 1}
    return SimpleNamespace(ti=SimpleNamespace(**names))


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

    monkeypatch.setattr("airflow_fate.executor.binder.write_binding", fail)
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


@pytest.mark.parametrize(
    ("outcome", "avoided"), [("up_for_retry", True), ("queued", True), ("success", False), ("deferred", False)]
)
def test_a_retry_knows_where_it_failed_whoever_had_placed_it(
    binder: Binder, frontier: Frontier, monkeypatch: pytest.MonkeyPatch, outcome: str, avoided: bool
) -> None:
    earlier = reservation("d0", task_id="a", stage="a", dag_id="dag", run_id="run", outcome=outcome)
    other = reservation("d1", task_id="b", stage="b", dag_id="dag", run_id="run", outcome="failed")
    monkeypatch.setattr(binder._ledger, "of_runs", lambda runs: [earlier, other])
    retry = ti("a")
    retry.ti.try_number = 2
    frontier.handle(Queued("try-a", "a", StageRef("dag/run", "a"), 0.0))
    found = binder._places_of_failed_tries(frontier.held(), {"try-a": retry})
    assert found == {"try-a": frozenset({"d0"} if avoided else ())}
