"""What FATE leans on fails, and tasks still run: tables, the solver's process, room for outputs. And settings that are
wrong say so.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil
import pytest
from sqlalchemy import create_engine, text

from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.store import Store
from airflow_fate.state.tables import metadata
from tests.integration.conftest import World
from tests.until import until

pytestmark = [pytest.mark.integration, pytest.mark.engine]


def solver_of(world: World) -> psutil.Process:
    """The solver's process of the running scheduler."""
    scheduler = psutil.Process(world.stack.processes["scheduler"].pid)
    name = "airflow_fate.executor.planning.solver"
    return until(lambda: next((child for child in scheduler.children() if name in child.cmdline()), None))


@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGSTOP, "does not answer"), (signal.SIGKILL, "ended with -9")],
    ids=["hangs", "crashes"],
)
def test_a_solver_that_fails_costs_a_warning_not_the_run(on_sqlite: World, number: signal.Signals, says: str) -> None:
    world = on_sqlite
    world.stack.api.wait_dag("shared_document")
    solver = solver_of(world)
    world.said(f"The solver's process {solver.pid} is ready")
    before = world.log_size()
    # Three of its tasks are ready at once, so that there is something to ask the solver about.
    run_id = world.stack.api.trigger("shared_document", {"document": f"The {number.name} leaves at noon. " * 30})
    until(lambda: world.reservations("shared_document", run_id))
    solver.send_signal(number)
    world.said(says, after=before)
    assert world.finished("shared_document", run_id) == "success"
    assert not solver.is_running()


@contextmanager
def no_room(world: World) -> Iterator[None]:
    """Inside, the node's room for stored outputs is used up."""
    folder = world.fleet.folder / "artifacts" / "here"
    folder.mkdir(parents=True, exist_ok=True)
    full = folder / ("f" * 32)
    with full.open("wb") as file:
        # Its length counts; a sparse file takes no disk.
        file.truncate(2_000_000_000)
    try:
        yield
    finally:
        full.unlink()


def test_an_output_that_finds_no_room_goes_on_whole_and_the_log_says_what_to_do(on_sqlite: World) -> None:
    world = on_sqlite
    world.stack.api.wait_dag("stored_answer")
    with no_room(world):
        run_id = world.stack.api.trigger("stored_answer")
        assert world.finished("stored_answer", run_id) == "success"
    path = f"/dags/stored_answer/dagRuns/{run_id}/taskInstances/long/xcomEntries/return_value"
    value = str(world.stack.api.call("GET", path, params={"stringify": True}).json()["value"])
    assert "size_bytes" not in value
    assert len(value) > 120
    log = world.stack.api.task_log("stored_answer", run_id, "long")
    assert "go into XCom whole" in log
    assert "raise artifacts_gb in the fleet file" in log
    (again,) = [
        reservation for reservation in world.reservations("stored_answer", run_id) if reservation.task_id == "again"
    ]
    assert again.facts[0]["prompt_tokens"] > 40


@pytest.mark.more
def test_without_fates_tables_tasks_run_degraded_until_somebody_migrates(on_sqlite: World) -> None:
    world = on_sqlite
    world.stack.api.wait_dag("beside")
    world.stack.kill("scheduler")
    engine = create_engine(world.stack.database)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE fate_alembic_version"))
    engine.dispose()
    before = world.log_size()
    world.stack.start("scheduler")
    run_id = world.stack.api.trigger("beside")
    assert world.stack.api.wait_run("beside", run_id, 90) == "success"
    log = world.stack.log("scheduler").read_text()[before:]
    assert log.count("keeps its reservations in memory") == 1
    assert "Traceback" not in log
    task_log = world.stack.api.task_log("beside", run_id, "ours")
    assert "FateExecutor is degraded" in task_log
    assert "run `airflow db migrate`" in task_log

    world.stack.migrate()
    world.said("FATE's tables can be used again", after=before)
    run_id = world.stack.api.trigger("beside")
    assert world.finished("beside", run_id) == "success"
    assert [reservation.task_id for reservation in world.reservations("beside", run_id)] == ["ours"]
    assert "degraded" not in world.stack.api.task_log("beside", run_id, "ours")


@pytest.mark.postgres
def test_on_postgresql_missing_tables_are_noticed_as_well(postgres: str) -> None:
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE bare"))
    engine.dispose()
    bare = create_engine(postgres.rpartition("/")[0] + "/bare")
    now_s = [0.0]
    store = Store(partial(transaction, bare), lambda: now_s[0])
    assert store.check()
    assert 'relation "fate_' in store.failure
    Ledger(store.connect).register({"d0": 1})
    metadata.create_all(bare)
    now_s[0] += 1000
    assert store.check()
    assert Ledger(store.connect).live() == []
    bare.dispose()


def test_a_scheduler_with_a_wrong_setting_ends_and_names_it(on_sqlite: World) -> None:
    stack = on_sqlite.stack
    usual = stack.settings
    stack.settings = {**usual, "fate__inner_executor": "SpeedyExecutor"}
    try:
        stack.start("scheduler-wrong")
    finally:
        stack.settings = usual
    process = stack.processes.pop("scheduler-wrong")
    assert process.wait(60) != 0
    last = stack.log("scheduler-wrong").read_text().strip().splitlines()[-1]
    assert "[fate] inner_executor 'SpeedyExecutor' can't be loaded" in last
    assert "it must be one of LocalExecutor, CeleryExecutor, KubernetesExecutor" in last
