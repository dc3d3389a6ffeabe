"""The rows of docs/troubleshooting.md that only a running Airflow can tell, on one run of one DAG."""

from __future__ import annotations

import pytest

from tests.integration.conftest import World
from tests.integration.test_waiting import DRAINED
from tests.troubleshooting import rows

pytestmark = [pytest.mark.integration, pytest.mark.engine]

TASKS = {
    "a model that the fleet doesn't have": "unknown_model",
    "a model that fits on no device": "too_large_model",
    "a connection that doesn't exist": "no_connection",
    "an `LLMOperator` on a connection of another type": "other_connection",
    "no model, neither at the task nor at the connection": "no_model",
    "a prompt longer than the engine's context": "too_long",
}
WALKED = {*TASKS, DRAINED}


@pytest.fixture(scope="module")
def failed(on_sqlite: World) -> str:
    """The run in which every task fails."""
    other = {"connection_id": "theirs", "conn_type": "http"}
    on_sqlite.stack.api.call("POST", "/connections", json=other)
    on_sqlite.stack.api.wait_dag("mistakes")
    run_id = on_sqlite.stack.api.trigger("mistakes")
    assert on_sqlite.finished("mistakes", run_id) == "failed"
    return run_id


@pytest.mark.parametrize("did", TASKS)
def test_a_task_says_so_at_the_end_of_its_log_and_is_not_tried_again(on_sqlite: World, failed: str, did: str) -> None:
    api = on_sqlite.stack.api
    (task,) = [instance for instance in api.task_instances("mistakes", failed) if instance["task_id"] == TASKS[did]]
    assert (task["state"], task["try_number"]) == ("failed", 1)
    log = api.task_log("mistakes", failed, TASKS[did])
    assert rows()[did].is_told_by(log.replace('\\"', '"')), log[-3000:]
