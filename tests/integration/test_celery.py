"""CeleryExecutor inside: tasks are bound here and run by a worker elsewhere, whom a scheduler's end doesn't touch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import World

pytestmark = [pytest.mark.more, pytest.mark.integration, pytest.mark.engine]


@pytest.fixture(scope="module")
def world(on_sqlite: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A scheduler and a Celery worker. Their broker is a folder: how messages travel is Celery's business."""
    folder = tmp_path_factory.mktemp("celery")
    queue, control = folder / "queue", folder / "control"
    queue.mkdir()
    transport = "celery_broker_transport_options__"
    with on_sqlite.scheduler_with(
        fate__inner_executor="CeleryExecutor",
        celery__broker_url="filesystem://",
        celery__result_backend=f"db+sqlite:///{folder / 'results.db'}",
        celery__worker_concurrency="4",
        **{
            f"{transport}data_folder_in": str(queue),
            f"{transport}data_folder_out": str(queue),
            f"{transport}control_folder": str(control),
            f"{transport}polling_interval": "0.1",
        },
    ):
        on_sqlite.stack.start("celery-worker")
        yield on_sqlite
        on_sqlite.stack.kill("celery-worker")


def test_tasks_with_and_without_a_spec_run_in_the_worker(world: World) -> None:
    world.stack.wait_dag("beside")
    run_id = world.stack.trigger("beside")
    assert world.finished("beside", run_id) == "success"
    (reservation,) = world.reservations("beside", run_id)
    assert (reservation.task_id, reservation.facts[0]["completion_tokens"] > 0) == ("ours", True)
    assert "Bound to gpu-" in world.stack.task_log("beside", run_id, "ours")
    worker = world.stack.log("celery-worker").read_text()
    assert worker.count("Executing workload in Celery") == 2


def test_a_killed_scheduler_leaves_the_workers_tasks_to_the_next_one(world: World) -> None:
    world.stack.wait_dag("short_answers")
    run_id = world.stack.trigger("short_answers")
    deadline = time.monotonic() + 60
    while list(world.state_of("short_answers", run_id).values()) != ["running"] * 3:
        assert time.monotonic() < deadline, "they never ran"
        time.sleep(0.1)
    before = world.log_size()
    world.stack.kill("scheduler")
    world.stack.start("scheduler")
    world.said("Adopted the following", after=before)
    assert world.finished("short_answers", run_id) == "success"
    answered = [one for one in world.reservations("short_answers", run_id) if one.outcome == "success"]
    # None was queued anew: the worker went on with them, and the new scheduler knew them.
    assert sorted((one.map_index, one.try_number) for one in answered) == [(0, 1), (1, 1), (2, 1)]
    assert world.ledger.live() == []
    assert world.ledger.audit() == {}
