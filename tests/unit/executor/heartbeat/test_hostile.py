"""One task's poison, in a heartbeat over a real ledger: the others are bound with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.pool import StaticPool

from airflow_fate.planner import Plan, PlanConfig, Problem
from airflow_fate.planner.plan import Policy
from airflow_fate.state.tables import history, metadata
from tests.unit.executor.scheduler import SPEC, World, facts


@pytest.fixture
def database() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, database: Engine) -> World:
    return World(monkeypatch, database)


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
    assert [reservation.task_id for reservation in world.ledger.live()] == ["next"]
    assert set(world.history.of_dags(["dag"])) == {("dag", "good")}


def test_negative_history_of_an_older_release_stops_nobody(world: World) -> None:
    with world.edges.store.connect() as connection:
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
    assert [reservation.task_id for reservation in world.ledger.live()] == ["next"]


def test_a_store_that_cannot_be_written_for_one_holds_that_one(world: World) -> None:
    world.store.refuses = lambda task_id, key: task_id == "bad"
    world.hold("bad")
    world.hold("good")
    world.cycle()
    assert world.bound == {"good"}
    assert world.held == ["bad"]
    assert world.ledger.audit() == {}


def test_a_refusal_that_cannot_be_written_is_a_failure_without_its_reason(world: World) -> None:
    world.store.refuses = lambda task_id, key: task_id == "bad"
    world.hold("bad", {"fate": SPEC["fate"] | {"prompts": 0}})
    world.hold("good")
    world.cycle()
    assert sorted(world.submitted) == ["bad", "good"]


def test_what_the_planner_chokes_on_costs_that_task_alone(world: World) -> None:
    def choking(policy: Policy) -> Policy:
        def plan(problem: Problem, config: PlanConfig) -> Plan:
            if any(ready.ref.stage == "bad" for ready in problem.frontier):
                raise OverflowError("Python int too large to convert to C long")
            return policy(problem, config)

        return plan

    world.plan_by(choking)
    world.hold("bad")
    world.hold("good")
    world.cycle()
    assert world.bound == {"good"}
    assert "Python int too large" in world.refused["bad"]


def test_a_heartbeat_that_takes_too_long_goes_on_with_the_next(world: World) -> None:
    """Each write takes two thirds of the heartbeat's time: what didn't fit is bound later, nothing twice."""

    def slow(task_id: str, key: str) -> bool:
        world.worked_s += 2.0
        return False

    world.store.refuses = slow
    for name in "abcd":
        world.hold(name)
    world.cycle()
    assert len(world.bound) == 2
    assert len(world.held) == 2
    world.cycle()
    assert sorted(world.submitted) == ["a", "b", "c", "d"]
    assert world.ledger.audit() == {}


def test_planning_that_takes_long_keeps_nobody_from_being_bound(world: World) -> None:
    def slow(policy: Policy) -> Policy:
        def plan(problem: Problem, config: PlanConfig) -> Plan:
            world.worked_s += 60.0
            return policy(problem, config)

        return plan

    world.plan_by(slow)
    world.hold("a")
    world.cycle()
    assert world.bound == {"a"}


def test_a_tenants_name_is_refused_to_a_dag_of_a_strange_bundle(
    monkeypatch: pytest.MonkeyPatch, database: Engine
) -> None:
    world = World(monkeypatch, database, tenants='{"finance": ["finance-dags"]}')
    spec = {"fate": SPEC["fate"] | {"tenant": "finance"}}
    world.hold("ours", spec, bundle="finance-dags")
    world.hold("theirs", spec, bundle="other-dags")
    world.cycle()
    assert world.bound == {"ours"}
    assert "tenant 'finance' may not be used by DAGs of bundle 'other-dags'" in world.refused["theirs"]
