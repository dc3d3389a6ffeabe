"""One task's poison, in a heartbeat of a real Binder over a real ledger: the others are bound in that cycle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, insert
from sqlalchemy.pool import StaticPool

from airflow_fate.planner import Plan, PlanConfig, Problem
from airflow_fate.state.tables import history, metadata
from tests.unit.executor.scheduler import SPEC, World, facts


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    yield World(monkeypatch, engine)
    engine.dispose()


BAD_SPECS = [
    {"prompts": 10**30},
    {"prompt_tokens": 10**30},
    {"max_tokens": -5},
    {"weight": float("inf")},
    {"weight": 1e300},
    {"max_shards": 10**18},
    {"tenant": "\ud800"},
    {"model": "x" * 300},
    {"prefix": [{"key": "k", "tokens": 1}] * 300},
    {"expected_output_tokens": "many"},
]


@pytest.mark.parametrize("fields", BAD_SPECS, ids=lambda fields: ",".join(fields))
def test_a_spec_out_of_bounds_fails_its_own_task_naming_the_key(world: World, fields: dict[str, Any]) -> None:
    world.hold("good")
    world.hold("bad", {"fate": SPEC["fate"] | fields})
    world.cycle()
    assert world.bound == {"good"}
    assert list(world.refused) == ["bad"]
    assert next(iter(fields)) in world.refused["bad"]


BAD_CONF = [{"document": "\ud800 lone surrogate"}, {"document": {"document": []}}, {"document": float("nan")}]


@pytest.mark.parametrize("conf", BAD_CONF, ids=str)
def test_a_runs_odd_values_keep_nobody_waiting(world: World, conf: dict[str, Any]) -> None:
    segment = {"key": "k", "path": ["params", "document"], "scoped": True}
    world.hold("good")
    world.hold("odd", {"fate": SPEC["fate"] | {"prefix": [segment]}})
    world.conf["odd"] = conf
    world.cycle()
    assert world.bound == {"good", "odd"}


BAD_FACTS = [
    [facts("r-bad", "d0", completion_tokens=-100_000)],
    [facts("r-bad", "d0", decode_s=float("inf"))],
    [facts("r-bad", "d0", prompt_tokens=10**40)],
    "[" * 50_000,
    "\ud800",
    "[[]]",
]


@pytest.mark.parametrize("poison", BAD_FACTS, ids=lambda poison: str(poison)[:40])
def test_a_try_that_left_odd_facts_gives_its_device_back_and_the_next_one_is_bound(world: World, poison: Any) -> None:
    world.run("bad", "d0", poison)
    world.run("good", "d1", [facts("r-good", "d1")])
    world.hold("next")
    world.cycle()
    assert world.bound == {"next"}
    assert [one.task_id for one in world.binder._ledger.live()] == ["next"]
    assert set(world.binder._memory.learned.history) == {("dag", "good")}


def test_negative_history_of_an_older_release_stops_nobody(world: World) -> None:
    with world.binder._store.connect() as connection:
        row = {"runs": 9, "prompt_tokens": 10.0, "output_tokens": -99_980.0, "duration_s": 1.0}
        connection.execute(insert(history).values(dag_id="dag", task_id="bad", **row))
    world.hold("bad", {"fate": {"model": "m", "version": 1}})
    world.hold("good")
    world.cycle()
    assert world.bound == {"good", "bad"}


def test_a_store_that_cannot_be_read_for_one_gives_all_devices_back(world: World) -> None:
    world.store.refuses = lambda task_id, key: task_id == "bad"
    world.run("bad", "d0")
    world.run("good", "d1", [facts("r-good", "d1")])
    world.hold("next")
    world.cycle()
    assert world.bound == {"next"}
    assert [one.task_id for one in world.binder._ledger.live()] == ["next"]


def test_a_store_that_cannot_be_written_for_one_holds_that_one(world: World) -> None:
    world.store.refuses = lambda task_id, key: task_id == "bad"
    world.hold("bad")
    world.hold("good")
    world.cycle()
    assert world.bound == {"good"}
    assert [entry.ref.stage for entry in world.frontier.held()] == ["bad"]
    assert world.binder._ledger.audit() == {}


def test_a_refusal_that_cannot_be_written_is_a_failure_without_its_reason(world: World) -> None:
    world.store.refuses = lambda task_id, key: task_id == "bad"
    world.hold("bad", {"fate": SPEC["fate"] | {"prompts": 0}})
    world.hold("good")
    world.cycle()
    assert sorted(world.submitted) == ["bad", "good"]


def test_what_the_planner_chokes_on_costs_that_task_alone(world: World) -> None:
    decider = world.binder._decider
    policy = decider._policy

    def choking(problem: Any, config: Any) -> Any:
        if any(ready.ref.stage == "bad" for ready in problem.frontier):
            raise OverflowError("Python int too large to convert to C long")
        return policy(problem, config)

    decider._policy = decider._fallback = choking
    world.hold("bad")
    world.hold("good")
    world.cycle()
    assert world.bound == {"good"}
    assert "Python int too large" in world.refused["bad"]


def test_a_heartbeat_that_takes_too_long_goes_on_with_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write takes two thirds of the heartbeat's time: what didn't fit is bound later, nothing twice."""
    at = 0.0
    monkeypatch.setattr(world.binder._budget, "_clock", lambda: at)

    def slow(task_id: str, key: str) -> bool:
        nonlocal at
        at += 2.0
        return False

    world.store.refuses = slow
    for name in "abcd":
        world.hold(name)
    world.cycle()
    assert len(world.bound) == 2
    assert len(world.frontier.held()) == 2
    world.binder._planned_at = 0.0
    world.cycle()
    assert sorted(world.submitted) == ["a", "b", "c", "d"]
    assert world.binder._ledger.audit() == {}


def test_planning_that_takes_long_keeps_nobody_from_being_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 0.0
    monkeypatch.setattr(world.binder._budget, "_clock", lambda: at)
    policy = world.binder._decider._policy

    def slow(problem: Problem, config: PlanConfig) -> Plan:
        nonlocal at
        at += 60.0
        return policy(problem, config)

    world.binder._decider._policy = slow
    world.hold("a")
    world.cycle()
    assert world.bound == {"a"}


def test_a_tenants_name_is_refused_to_a_dag_of_a_strange_bundle(world: World) -> None:
    world.binder._settings = replace(world.binder._settings, tenants={"finance": frozenset({"finance-dags"})})
    spec = {"fate": SPEC["fate"] | {"tenant": "finance"}}
    world.hold("ours", spec, bundle="finance-dags")
    world.hold("theirs", spec, bundle="other-dags")
    world.cycle()
    assert world.bound == {"ours"}
    assert "tenant 'finance' may not be used by DAGs of bundle 'other-dags'" in world.refused["theirs"]
