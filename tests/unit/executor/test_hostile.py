"""One task's poison, in a heartbeat of a real Binder over a real ledger: the others are bound in that cycle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.pool import StaticPool

from airflow_fate.cluster import Device, Fleet, Node
from airflow_fate.executor.binder import Binder
from airflow_fate.executor.convert import RunShape, TaskShape
from airflow_fate.executor.frontier import Adopted, Frontier, Queued
from airflow_fate.executor.settings import read_settings
from airflow_fate.messages import BINDING_KEY, SEAL_KEY, STATS_KEY, read_spec, unsealed
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.source import FleetView
from airflow_fate.state.tables import history, metadata
from airflow_fate.workflow import StageRef
from tests.unit.executor.builders import MODEL, SECRET, connections, report, reservation

OPTIONS = get_provider_info()["config"]["fate"]["options"]
DEVICES = [f"d{number}" for number in range(6)]
FLEET = Fleet({"n": Node("n")}, {name: Device(name, "n", "cpu", 2e9, 8192, 1) for name in DEVICES}, {"m": MODEL}, {})
VIEW = FleetView(
    FLEET,
    {name: report(name) for name in DEVICES},
    {name: f"http://127.0.0.1/{name}" for name in DEVICES},
    dict.fromkeys(DEVICES, 0.0),
    dict.fromkeys(DEVICES, True),
    1,
)
SPEC = {"fate": {"model": "m", "prompt_tokens": 10, "version": 1}}


class StoreBackend:
    """Airflow's task state store; ``refuses`` says for whom it fails."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self.refuses: Callable[[str, str], bool] = lambda task_id, key: False

    def get(self, scope: Any, key: str) -> str | None:
        if self.refuses(scope.task_id, key):
            raise RuntimeError("the store can't be read")
        return self.values.get((scope.task_id, key))

    def set(self, scope: Any, key: str, value: str) -> None:
        if self.refuses(scope.task_id, key):
            raise RuntimeError("the store can't be written")
        self.values[scope.task_id, key] = value


class World:
    """A scheduler's Binder over a database of its own, with tasks of several runs, held and running."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
        self.store = StoreBackend()
        self.conf: dict[str, Any] = {}
        self.ended: dict[str, str] = {}
        self.workloads: dict[str, Any] = {}
        self.submitted: list[str] = []
        self.seals: dict[str, str] = {}
        self.frontier = Frontier(100.0)
        values = {name: option["default"] for name, option in OPTIONS.items()}
        values |= {"gateway_secret": SECRET, "solver": "off"}
        monkeypatch.setattr("airflow.settings.engine", engine)
        monkeypatch.setattr("airflow.state.get_state_backend", lambda: self.store)
        monkeypatch.setattr("airflow_fate.executor.binder.ended_tries", lambda ti_ids: self.ended)
        self.binder = Binder(
            read_settings(values.__getitem__, 600.0),
            self.frontier,
            self._submit,
            lambda *_: None,
            self.workloads.pop,
            self.workloads.pop,
            connections(),
        )
        monkeypatch.setattr(self.binder._source, "snapshot", lambda: VIEW)
        monkeypatch.setattr(self.binder._memory._runs, "read", self._read)

    def hold(self, name: str, spec: dict[str, Any] = SPEC) -> None:
        """A task that waits, in a run of its own."""
        values = {"id": f"try-{name}", "dag_id": "dag", "run_id": name, "task_id": name, "map_index": -1}
        task = SimpleNamespace(**values, try_number=1, dag_version_id="v", executor_config=spec, context_carrier=None)
        self.workloads[f"try-{name}"] = SimpleNamespace(ti=task)
        self.frontier.handle(Queued(f"try-{name}", name, StageRef(f"dag/{name}", name), time.time()))

    def run(self, name: str, device: str, facts: Any = None) -> str:
        """A task that runs on a device, and has ended since."""
        made = reservation(device, id=f"r-{name}", ti_id=f"try-{name}", run_id=name, task_id=name, stage=name)
        self.binder._ledger.register(dict.fromkeys(DEVICES, 1))
        claimed = self.binder._ledger.claim(made)
        self.frontier.handle(Adopted(f"try-{name}", name, StageRef(f"dag/{name}", name), claimed.id, 0.0))
        self.ended[f"try-{name}"] = "success"
        self.store.values[name, STATS_KEY] = facts if isinstance(facts, str) else json.dumps(facts)
        return claimed.id

    def cycle(self) -> None:
        self.binder.cycle(self.workloads)

    @property
    def bound(self) -> set[str]:
        return {name for name in self.submitted if not self._binding(name).get("error")}

    @property
    def refused(self) -> dict[str, str]:
        """Tasks that were let fail -> why."""
        return {name: text for name in self.submitted if (text := self._binding(name).get("error"))}

    def _binding(self, name: str) -> dict[str, Any]:
        kept = self.store.values.get((name, BINDING_KEY))
        return unsealed(json.loads(kept), self.seals[name]).model_dump() if kept else {}

    def _submit(self, ti_id: str) -> None:
        name = ti_id.removeprefix("try-")
        self.seals[name] = self.workloads.pop(ti_id).ti.context_carrier[SEAL_KEY]
        self.submitted.append(name)

    def _read(self, wanted: dict[tuple[str, str], str]) -> dict[tuple[str, str], RunShape]:
        shapes = {}
        for dag_id, run_id in wanted:
            task = TaskShape(run_id, read_spec(self.workloads[f"try-{run_id}"].ti.executor_config))
            conf = self.conf.get(run_id, {})
            shapes[dag_id, run_id] = RunShape(dag_id, run_id, 0.0, {run_id: task}, {"params": conf})
        return shapes


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    yield World(monkeypatch, engine)
    engine.dispose()


def facts(reservation_id: str, device: str, **fields: Any) -> str:
    """As a gateway signs them, also ones that no gateway should."""
    values = {"requests": 1, "prompt_tokens": 30, "completion_tokens": 20, "prefill_s": 1.0, "decode_s": 1.0}
    found = {"reservation": reservation_id, "device": device, "model": "m"} | values | fields
    return jwt.encode({"aud": "facts", "facts": found}, SECRET, algorithm="HS256")


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

    def choking(frontier: Any, *rest: Any) -> Any:
        if any(ready.ref.stage == "bad" for ready in frontier):
            raise OverflowError("Python int too large to convert to C long")
        return policy(frontier, *rest)

    decider._policy = decider._fallback = choking
    world.hold("bad")
    world.hold("good")
    world.cycle()
    assert world.bound == {"good"}
    assert "Python int too large" in world.refused["bad"]


def test_a_heartbeat_that_takes_too_long_goes_on_with_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write takes half of the heartbeat's time: what didn't fit is bound later, nothing twice."""
    at = 0.0
    monkeypatch.setattr(world.binder._budget, "_clock", lambda: at)

    def slow(task_id: str, key: str) -> bool:
        nonlocal at
        at += 1.0
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
