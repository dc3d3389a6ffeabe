"""Real parts: engines, Airflow on SQLite and PostgreSQL, each started once and shared by its users."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from sqlalchemy import create_engine

from airflow_fate.demo.passes import LocalFleetProcess
from airflow_fate.demo.stack import AirflowStack
from airflow_fate.state.ledger import Ledger, Reservation, transaction
from tests.servers import mariadb, postgres, redis
from tests.until import until

__all__ = ["mariadb", "postgres", "redis"]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PARTS = ("api-server", "dag-processor", "triggerer")
SCHEDULER = {
    # Three schedulers are there at once, most of the time idle.
    "scheduler__scheduler_idle_sleep_time": "0.4",
    # A dead scheduler is noticed in seconds, so that the tests need not wait for minutes.
    "scheduler__scheduler_health_check_threshold": "6",
    "scheduler__scheduler_heartbeat_sec": "1",
    "scheduler__orphaned_tasks_check_interval": "3",
    "scheduler__task_instance_heartbeat_timeout": "20",
    "scheduler__task_instance_heartbeat_timeout_detection_interval": "5",
}


@dataclass(frozen=True)
class World:
    """An Airflow with its fleet, and its ledger."""

    stack: AirflowStack
    fleet: LocalFleetProcess
    ledger: Ledger

    def reservations(self, dag_id: str, run_id: str) -> list[Reservation]:
        return self.ledger.of_runs([(dag_id, run_id)])

    def finished(self, dag_id: str, run_id: str, timeout_s: float = 180.0) -> str:
        """Wait until a run has ended, and the ledger knows it; returns its state."""
        state = self.stack.api.wait_run(dag_id, run_id, timeout_s)
        # What a try measured is read after its devices were given back.
        until(
            lambda: all(
                reservation.ended_at is not None and (reservation.outcome != "success" or reservation.facts)
                for reservation in self.reservations(dag_id, run_id)
            )
        )
        return state

    def state_of(self, dag_id: str, run_id: str) -> dict[str, str]:
        """``task`` or ``task[index]`` -> its state."""
        return {
            ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""): ti["state"]
            for ti in self.stack.api.task_instances(dag_id, run_id)
        }

    @contextmanager
    def scheduler_with(self, **more: str) -> Iterator[None]:
        """Inside, the scheduler is another one, with further settings (and so is all that is started inside)."""
        usual = self.stack.settings
        self.stack.kill("scheduler")
        self.stack.settings = {**usual, **more}
        try:
            self.stack.start("scheduler")
            yield
        finally:
            self.stack.settings = usual
            self.stack.kill("scheduler")
            self.stack.start("scheduler")

    def said(self, text: str, name: str = "scheduler", after: int = 0, timeout_s: float = 60.0) -> None:
        """Wait until a part's log has a text.

        :param after: where to begin, as ``log_size`` told.
        """
        until(lambda: text in self.stack.log(name).read_text(errors="replace")[after:], timeout_s)

    def log_size(self, name: str = "scheduler") -> int:
        return len(self.stack.log(name).read_text(errors="replace"))

    def gateway(self, device: str) -> psutil.Process:
        """The process of a device's gateway."""
        wanted = {"airflow_fate.gateway", str(self.fleet.folder), device}
        (gateway_process,) = (
            process for process in psutil.process_iter(["cmdline"]) if wanted <= set(process.info["cmdline"] or ())
        )
        return gateway_process


class MakeWorld(Protocol):
    """Starts an Airflow; ``more`` are further settings."""

    def __call__(
        self,
        name: str,
        database: str = "",
        more: Mapping[str, str] | None = None,
        schedulers: Sequence[str] = ("scheduler",),
    ) -> World: ...


@pytest.fixture(scope="session")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    for source in (HERE / "dags", ROOT / "dags_examples"):
        for path in source.glob("*.py"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory, dags: Path) -> Iterator[MakeWorld]:
    """Starts an Airflow, and a fleet of its own: a ledger must know all that its fleet does."""
    worlds: list[World] = []

    def make(
        name: str, database: str = "", more: Mapping[str, str] | None = None, schedulers: Sequence[str] = ("scheduler",)
    ) -> World:
        fleet = LocalFleetProcess(tmp_path_factory.mktemp(f"{name}-fleet"), HERE / "fleet.yaml")
        fleet.start(devices=3)
        settings = {**SCHEDULER, "fate__fleet_dir": str(fleet.folder), "fate__xcom_limit_bytes": "120", **(more or {})}
        # Any name and as many as one likes: the type alone makes them the fleet's.
        connections = {"pydanticai_default": {"conn_type": "fate", "extra": {"model": "smol-a"}}}
        stack = AirflowStack(tmp_path_factory.mktemp(name), dags, database, settings, connections)
        world = World(stack, fleet, Ledger(partial(transaction, create_engine(stack.database))))
        worlds.append(world)
        stack.migrate()
        stack.start(*PARTS, *schedulers)
        stack.wait_healthy()
        return world

    yield make
    for world in worlds:
        # A polite end would wait for every part; that it works is for the demo's test to show.
        for name in list(world.stack.processes):
            world.stack.kill(name)
        world.stack.stop()
        world.fleet.stop()


@pytest.fixture(scope="session")
def on_sqlite(make_world: MakeWorld) -> World:
    return make_world("sqlite")


@pytest.fixture(scope="session")
def on_postgres(make_world: MakeWorld, postgres: str) -> World:
    """Two schedulers on one PostgreSQL."""
    # On a busy machine a heartbeat may take its time, and neither shall take the other for dead.
    names = ("scheduler-1", "scheduler-2")
    world = make_world("postgres", postgres, {"scheduler__scheduler_health_check_threshold": "10"}, names)
    for name in names:
        # What it imports and forks when it starts is behind it then.
        world.said("is ready", name)
    return world
