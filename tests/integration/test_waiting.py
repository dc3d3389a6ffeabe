"""Tasks that nothing can serve now, and FateExecutor beside another executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from airflow_fate.messages import reader_token
from airflow_fate.state.local import LocalFleet
from tests.integration.conftest import MakeWorld, World
from tests.troubleshooting import rows
from tests.until import until

pytestmark = [pytest.mark.integration, pytest.mark.engine]
DRAINED = "took the fleet down, or drained it"
"""The row of docs/troubleshooting.md about it."""


@contextmanager
def all_drained(world: World) -> Iterator[None]:
    """No device takes new work inside."""
    token = reader_token((world.fleet.folder / "secret").read_text().strip(), "executor")
    urls = LocalFleet(world.fleet.folder).snapshot().urls.values()

    def drain(query: str) -> None:
        for url in urls:
            answer = httpx.post(f"{url}/fate/v1/drain{query}", headers={"Authorization": f"Bearer {token}"})
            answer.raise_for_status()

    drain("")
    try:
        yield
    finally:
        drain("?undo=true")


def test_a_task_waits_while_no_device_is_usable_and_says_so(on_sqlite: World) -> None:
    world = on_sqlite
    world.stack.api.wait_dag("beside")
    with all_drained(world):
        run_id = world.stack.api.trigger("beside")

        def reasons() -> list[str]:
            events = world.stack.api.call("GET", "/eventLogs", params={"dag_id": "beside", "run_id": run_id}).json()
            return [event["extra"] for event in events["event_logs"] if event["event"] == "fate: waiting"]

        reason, *_ = until(reasons, timeout_s=90)
        assert world.state_of("beside", run_id)["ours"] == "queued"
    assert rows()[DRAINED].is_told_by(reason)
    assert world.finished("beside", run_id) == "success"
    # Its own log, which begins when it runs, says the same.
    log = world.stack.api.task_log("beside", run_id, "ours")
    assert "Held " in log
    assert reason in log


@pytest.mark.more
def test_beside_another_executor_only_its_own_tasks_are_touched(make_world: MakeWorld) -> None:
    world = make_world("beside", more={"core__executor": "LocalExecutor,airflow_fate.executor.FateExecutor"})
    world.stack.api.wait_dag("beside")
    run_id = world.stack.api.trigger("beside")
    assert world.finished("beside", run_id) == "success"
    assert [reservation.task_id for reservation in world.reservations("beside", run_id)] == ["ours"]
    executors = {ti["task_id"]: ti["executor"] for ti in world.stack.api.task_instances("beside", run_id)}
    assert executors == {"theirs": None, "ours": "airflow_fate.executor.FateExecutor"}
