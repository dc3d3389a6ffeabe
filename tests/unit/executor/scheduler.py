"""A scheduler's heartbeats over a database of its own, with tasks of several runs, held and running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from sqlalchemy import Engine

from airflow_fate.cluster import Device, Fleet, Node
from airflow_fate.executor.accounts.accounts import Accounts
from airflow_fate.executor.assembly import assemble
from airflow_fate.executor.database import connect
from airflow_fate.executor.frontier import Adopted, Frontier, Queued
from airflow_fate.executor.heartbeat.budget import Budget
from airflow_fate.executor.heartbeat.edges import Edges
from airflow_fate.executor.heartbeat.notifier import EndNotifier
from airflow_fate.executor.planning.decider import Decider
from airflow_fate.executor.runs.convert import RunShape, TaskShape
from airflow_fate.executor.runs.reader import RunKey
from airflow_fate.executor.settings import read_settings
from airflow_fate.messages import BINDING_KEY, SEAL_KEY, STATS_KEY, Binding, read_spec, unsealed
from airflow_fate.planner.plan import Policy
from airflow_fate.planner.policies import policy as find_policy
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.history import History
from airflow_fate.state.holds import Holds
from airflow_fate.state.ledger import Ledger, Reservation
from airflow_fate.state.presence import Presence
from airflow_fate.state.source import FleetView
from airflow_fate.state.speeds import LearnedSpeeds
from airflow_fate.state.store import Store
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


class Source:
    """Knows of the fleet what a test says."""

    def __init__(self, view: FleetView) -> None:
        self.view = view

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def snapshot(self) -> FleetView:
        return self.view


class Notifier(EndNotifier):
    """Notes what it is to tell, and tells nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[tuple[str, ...], str, str]] = []
        """(gateways, reservation, why)"""

    def ended(self, urls: Iterable[str], reservation_id: str, secret: str, why: str = "") -> None:
        self.ends.append((tuple(urls), reservation_id, why))


class StoreBackend:
    """Airflow's task state store; ``refuses`` says for whom it fails."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self.refuses: Callable[[str, str], bool] = lambda task_id, key: False

    def get(self, scope: Any, key: str, *, session: Any = None) -> str | None:
        if self.refuses(scope.task_id, key):
            raise RuntimeError("the store can't be read")
        return self.values.get((scope.task_id, key))

    def set(self, scope: Any, key: str, value: str, *, session: Any = None) -> None:
        if self.refuses(scope.task_id, key):
            raise RuntimeError("the store can't be written")
        self.values[scope.task_id, key] = value


class World:
    """A scheduler's heartbeats, and the outlet of its tasks.

    :param engine: a database; FATE's tables may be missing there.
    :param options: of the ``[fate]`` section.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine, **options: str) -> None:
        self.now = time.time()
        self.worked_s = 0.0
        """What the heartbeat's budget takes for the time that passes."""
        self.store = StoreBackend()
        self.conf: dict[str, Any] = {}
        self.ended: dict[str, str] = {}
        self.workloads: dict[str, Any] = {}
        self.submitted: list[str] = []
        self.said: list[tuple[str, str]] = []
        self.seals: dict[str, str] = {}
        self.frontier = Frontier(100.0)
        self.source = Source(VIEW)
        self.notifier = Notifier()
        values = {name: option["default"] for name, option in OPTIONS.items()}
        values |= {"gateway_secret": SECRET, "solver": "off"} | options
        self.settings = read_settings(values.__getitem__, 600.0)
        monkeypatch.setattr("airflow.settings.engine", engine)
        monkeypatch.setattr("airflow.state.get_state_backend", lambda: self.store)
        store = Store(connect)
        self.accounts = Accounts(self.settings.budgets, self.settings.prices, Holds(connect), lambda: self.now)
        self.ledger = Ledger(store.connect)
        self.history = History(store.connect)
        self.rewire(
            Edges(
                store=store,
                ledger=self.ledger,
                history=self.history,
                speeds=LearnedSpeeds(store.connect),
                presence=Presence(store.connect),
                accounts=self.accounts,
                source=self.source,
                decider=Decider("fate", None),
                notifier=self.notifier,
                read_runs=self._read,
                ended_tries=lambda ti_ids: self.ended,
                budget=Budget(clock=lambda: self.worked_s),
                clock=lambda: self.now,
            )
        )

    def rewire(self, edges: Edges) -> None:
        """The heartbeat reaches something else from now on."""
        self.edges = edges
        self.heartbeat = assemble(self.settings, self.frontier, self, connections(), edges)

    def plan_by(self, way: Callable[[Policy], Policy]) -> None:
        """Plans are made by each policy as changed here."""
        self.rewire(replace(self.edges, decider=Decider("fate", None, find=lambda name: way(find_policy(name)))))

    def hold(self, name: str, spec: dict[str, Any] = SPEC, bundle: str = "", for_s: float = 0.0) -> None:
        """A task that waits, in a run of its own.

        :param for_s: how long it has waited.
        """
        values = {"id": f"try-{name}", "dag_id": "dag", "run_id": name, "task_id": name, "map_index": -1}
        task = SimpleNamespace(**values, try_number=1, dag_version_id="v", executor_config=spec, context_carrier=None)
        self.workloads[f"try-{name}"] = SimpleNamespace(ti=task, bundle_info=SimpleNamespace(name=bundle))
        self.frontier.handle(Queued(f"try-{name}", name, StageRef(f"dag/{name}", name), self.now - for_s))

    def claim(self, wanted: Reservation) -> Reservation:
        self.ledger.register(dict.fromkeys(DEVICES, 1))
        return self.ledger.claim(wanted)

    def run(self, name: str, device: str, facts: Any = None) -> None:
        """A task that runs on a device, and has ended since."""
        claimed = self.claim(
            reservation(device, id=f"r-{name}", ti_id=f"try-{name}", run_id=name, task_id=name, stage=name)
        )
        self.frontier.handle(Adopted(f"try-{name}", name, StageRef(f"dag/{name}", name), claimed.id, self.now))
        self.ended[f"try-{name}"] = "success"
        self.store.values[name, STATS_KEY] = facts if isinstance(facts, str) else json.dumps(facts)

    def cycle(self, after_s: float = 2.0) -> None:
        """A heartbeat, so long after the last one that held tasks are planned anew."""
        self.now += after_s
        self.heartbeat.beat(self.workloads)

    @property
    def held(self) -> list[str]:
        return [entry.ref.stage for entry in self.frontier.held()]

    @property
    def bound(self) -> set[str]:
        return {name for name in self.submitted if not self._error(name)}

    @property
    def refused(self) -> dict[str, str]:
        """Tasks that were let fail -> why."""
        return {name: error for name in self.submitted if (error := self._error(name))}

    def binding(self, name: str) -> Binding | None:
        """What a submitted task finds."""
        kept = self.store.values.get((name, BINDING_KEY))
        return unsealed(json.loads(kept), self.seals[name]) if kept else None

    # The outlet

    def submit(self, ti_id: str) -> None:
        name = ti_id.removeprefix("try-")
        self.seals[name] = self.workloads.pop(ti_id).ti.context_carrier[SEAL_KEY]
        self.submitted.append(name)

    def pass_on(self, ti_id: str) -> None:
        del self.workloads[ti_id]

    def hand_back(self, ti_id: str) -> None:
        del self.workloads[ti_id]

    def say(self, ti_id: str, text: str) -> None:
        self.said.append((ti_id.removeprefix("try-"), text))

    def _error(self, name: str) -> str:
        binding = self.binding(name)
        return binding.error if binding else ""

    def _read(self, wanted: Mapping[RunKey, str]) -> dict[RunKey, RunShape]:
        shapes = {}
        for dag_id, run_id in wanted:
            task = TaskShape(run_id, read_spec(self.workloads[f"try-{run_id}"].ti.executor_config))
            conf = self.conf.get(run_id, {})
            shapes[dag_id, run_id] = RunShape(dag_id, run_id, 0.0, {run_id: task}, {"params": conf})
        return shapes


def facts(reservation_id: str, device: str, **fields: Any) -> str:
    """As a gateway signs them, also ones that no gateway should."""
    values = {"requests": 1, "prompt_tokens": 30, "completion_tokens": 20, "prefill_s": 1.0, "decode_s": 1.0}
    signed = {"reservation": reservation_id, "device": device, "model": "m"} | values | fields
    return jwt.encode({"aud": "facts", "facts": signed}, SECRET, algorithm="HS256")
