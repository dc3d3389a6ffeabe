"""A scheduler's Binder over a database of its own, with tasks of several runs, held and running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from sqlalchemy import Engine

from airflow_fate.cluster import Device, Fleet, Node
from airflow_fate.executor.frontier.frontier import Adopted, Frontier, Queued
from airflow_fate.executor.heartbeat.heartbeat import Binder
from airflow_fate.executor.runs.convert import RunShape, TaskShape
from airflow_fate.executor.settings import read_settings
from airflow_fate.messages import BINDING_KEY, SEAL_KEY, STATS_KEY, read_spec, unsealed
from airflow_fate.provider_info import get_provider_info
from airflow_fate.state.source import FleetView
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

    def get(self, scope: Any, key: str, *, session: Any = None) -> str | None:
        if self.refuses(scope.task_id, key):
            raise RuntimeError("the store can't be read")
        return self.values.get((scope.task_id, key))

    def set(self, scope: Any, key: str, value: str, *, session: Any = None) -> None:
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
        monkeypatch.setattr("airflow_fate.executor.heartbeat.heartbeat.ended_tries", lambda ti_ids: self.ended)
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

    def hold(self, name: str, spec: dict[str, Any] = SPEC, bundle: str = "") -> None:
        """A task that waits, in a run of its own."""
        values = {"id": f"try-{name}", "dag_id": "dag", "run_id": name, "task_id": name, "map_index": -1}
        task = SimpleNamespace(**values, try_number=1, dag_version_id="v", executor_config=spec, context_carrier=None)
        self.workloads[f"try-{name}"] = SimpleNamespace(ti=task, bundle_info=SimpleNamespace(name=bundle))
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


def facts(reservation_id: str, device: str, **fields: Any) -> str:
    """As a gateway signs them, also ones that no gateway should."""
    values = {"requests": 1, "prompt_tokens": 30, "completion_tokens": 20, "prefill_s": 1.0, "decode_s": 1.0}
    found = {"reservation": reservation_id, "device": device, "model": "m"} | values | fields
    return jwt.encode({"aud": "facts", "facts": found}, SECRET, algorithm="HS256")
