"""CeleryExecutor inside: tasks are bound here and run by a worker elsewhere, whom a scheduler's end doesn't touch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import World
from tests.until import until

pytestmark = [pytest.mark.more, pytest.mark.integration, pytest.mark.engine]


@pytest.fixture(scope="module")
def world(on_sqlite: World, redis: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A scheduler and a Celery worker, over Redis."""
    with on_sqlite.scheduler_with(
        fate__inner_executor="CeleryExecutor",
        celery__broker_url=redis,
        celery__result_backend=f"db+sqlite:///{tmp_path_factory.mktemp('celery') / 'results.db'}",
        celery__worker_concurrency="4",
    ):
        on_sqlite.stack.start("celery-worker")
        yield on_sqlite
        on_sqlite.stack.kill("celery-worker")


def test_tasks_with_and_without_a_spec_run_in_the_worker(world: World) -> None:
    world.stack.api.wait_dag("beside")
    run_id = world.stack.api.trigger("beside")
    assert world.finished("beside", run_id) == "success"
    (reservation,) = world.reservations("beside", run_id)
    assert (reservation.task_id, reservation.facts[0]["completion_tokens"] > 0) == ("ours", True)
    assert "Bound to gpu-" in world.stack.api.task_log("beside", run_id, "ours")
    worker = world.stack.log("celery-worker").read_text()
    assert worker.count("Executing workload in Celery") == 2


def test_a_killed_scheduler_leaves_the_workers_tasks_to_the_next_one(world: World) -> None:
    world.stack.api.wait_dag("short_answers")
    run_id = world.stack.api.trigger("short_answers")
    until(lambda: len(world.ledger.live()) == 3)
    # Nothing is answered until the next scheduler has taken them over, however long that takes.
    gateways = {world.gateway(share.device) for reservation in world.ledger.live() for share in reservation.shares}
    for gateway in gateways:
        gateway.suspend()
    until(lambda: list(world.state_of("short_answers", run_id).values()) == ["running"] * 3)
    before = world.log_size()
    world.stack.kill("scheduler")
    world.stack.start("scheduler")
    world.said("Adopted the following", after=before)
    for gateway in gateways:
        gateway.resume()
    assert world.finished("short_answers", run_id) == "success"
    answered = [
        reservation for reservation in world.reservations("short_answers", run_id) if reservation.outcome == "success"
    ]
    # None was queued anew: the worker went on with them, and the new scheduler knew them.
    assert sorted((reservation.map_index, reservation.try_number) for reservation in answered) == [
        (0, 1),
        (1, 1),
        (2, 1),
    ]
    assert world.ledger.live() == []
    assert world.ledger.audit() == {}
