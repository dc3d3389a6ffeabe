"""The whole way: Airflow's scheduler with FateExecutor, every kind of task, on real engines; SQLite and PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from airflow_fate.state.ledger import Reservation
from tests.integration.conftest import World
from tests.until import until

pytestmark = [pytest.mark.integration, pytest.mark.engine]
# Long enough that reading it again costs more than waiting for who has read it.
DOCUMENT = "The ferry leaves at noon. " * 150


SQLITE = pytest.param("on_sqlite", id="sqlite")
SQLITE_MORE = pytest.param("on_sqlite", id="sqlite", marks=pytest.mark.more)
POSTGRES = pytest.param("on_postgres", id="postgres", marks=pytest.mark.postgres)
POSTGRES_MORE = pytest.param("on_postgres", id="postgres", marks=[pytest.mark.postgres, pytest.mark.more])


@pytest.fixture(scope="module", params=[SQLITE, POSTGRES])
def world(request: pytest.FixtureRequest) -> World:
    world: World = request.getfixturevalue(request.param)
    return world


@pytest.fixture(scope="module")
def run(world: World) -> str:
    """One run of the DAG that has every kind of task."""
    world.stack.api.wait_dag("kinds")
    run_id = world.stack.api.trigger("kinds", {"document": DOCUMENT})
    assert world.finished("kinds", run_id, timeout_s=240) == "success"
    return run_id


def of_task(world: World, run_id: str, task_id: str) -> list[Reservation]:
    return [reservation for reservation in world.reservations("kinds", run_id) if reservation.task_id == task_id]


def xcom(world: World, run_id: str, task_id: str, map_index: int = -1) -> object:
    path = f"/dags/kinds/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
    return world.stack.api.call("GET", path, params={"map_index": map_index, "deserialize": True}).json()["value"]


def test_every_task_ends_as_it_should(world: World, run: str) -> None:
    states = world.state_of("kinds", run)
    failed = {task for task, state in states.items() if state != "success"}
    assert failed == {"failing", "unknown_model", "too_large", "empty_batch"}


def test_values_of_a_class_in_the_dags_file_are_read_downstream(world: World, run: str) -> None:
    kinds = xcom(world, run, "reads")
    assert isinstance(kinds, list)
    assert len(kinds) == 3
    assert set(kinds) <= {"sea", "land"}


def test_a_batch_that_another_task_gives_is_planned_by_its_length(world: World, run: str) -> None:
    (given,) = of_task(world, run, "given_batch")
    assert sum(share.prompts for share in given.shares) == 3
    assert of_task(world, run, "empty_batch") == []
    assert "task 'nothing' gave an empty list" in world.stack.api.task_log("kinds", run, "empty_batch")


def test_mapped_tasks_are_bound_one_by_one(world: World, run: str) -> None:
    mapped = of_task(world, run, "mapped")
    assert sorted(reservation.map_index for reservation in mapped) == [0, 1, 2]
    assert len({reservation.ti_id for reservation in mapped}) == 3


@pytest.mark.parametrize("world", [SQLITE, POSTGRES_MORE], indirect=True)
def test_tasks_are_held_for_the_engine_that_has_their_document(world: World) -> None:
    world.stack.api.wait_dag("held_document")
    run_id = world.stack.api.trigger("held_document")
    assert world.finished("held_document", run_id) == "success"
    reservations = world.reservations("held_document", run_id)
    assert len({reservation.shares[0].device for reservation in reservations}) == 1
    facts = [fact for reservation in reservations if reservation.task_id == "mapped" for fact in reservation.facts]
    assert len(facts) == 3
    assert sum(fact["cached_tokens"] for fact in facts) > 0.9 * sum(fact["prompt_tokens"] for fact in facts)


def test_a_continued_conversation_is_found_in_the_engines_cache(world: World, run: str) -> None:
    (follows,) = of_task(world, run, "follows")
    (parent,) = [reservation for reservation in of_task(world, run, "mapped") if reservation.map_index == 1]
    assert follows.chain[0][0] == parent.conversation
    (fact,) = follows.facts
    assert fact["prompt_tokens"] > parent.facts[0]["prompt_tokens"]
    if follows.shares[0].device == parent.shares[0].device:
        assert fact["cached_tokens"] > 0.5 * fact["prompt_tokens"]


def test_a_batch_comes_back_whole_and_in_order(world: World, run: str) -> None:
    answers = xcom(world, run, "batch")
    assert isinstance(answers, list)
    assert len(answers) == 4
    (reservation,) = of_task(world, run, "batch")
    assert sum(share.prompts for share in reservation.shares) == 4
    assert sum(fact["requests"] for fact in reservation.facts) == 4


def test_a_retried_task_gets_a_new_reservation_for_each_try(world: World, run: str) -> None:
    tries = of_task(world, run, "retried")
    assert [reservation.try_number for reservation in tries] == [1, 2]
    assert len({reservation.ti_id for reservation in tries}) == 2


def test_a_deferred_task_holds_no_device_while_it_waits(world: World, run: str) -> None:
    first, second = of_task(world, run, "deferred")
    assert first.try_number == second.try_number
    assert first.outcome == "deferred"
    assert first.ended_at is not None
    assert first.ended_at < second.claimed_at


def test_another_operator_with_a_fate_connection_is_placed(world: World, run: str) -> None:
    (reservation,) = of_task(world, run, "agent")
    assert reservation.model == "smol-a"
    assert reservation.facts[0]["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("task_id", "reason"),
    [("unknown_model", "nobody-has-it"), ("too_large", "giant")],
)
def test_what_can_never_be_served_fails_at_once_with_the_reason(
    world: World, run: str, task_id: str, reason: str
) -> None:
    (ti,) = [ti for ti in world.stack.api.task_instances("kinds", run) if ti["task_id"] == task_id]
    assert ti["try_number"] == 1
    assert reason in world.stack.api.task_log("kinds", run, task_id)
    assert of_task(world, run, task_id) == []


def test_a_task_says_where_it_was_bound_and_why(world: World, run: str) -> None:
    log = world.stack.api.task_log("kinds", run, "follows")
    assert "Bound to gpu-" in log
    assert "prompt tokens cached" in log


def test_no_try_was_bound_twice_at_once_and_nothing_stays_taken(world: World, run: str) -> None:
    reservations = world.reservations("kinds", run)
    assert all(reservation.ended_at is not None for reservation in reservations)
    assert world.ledger.audit() == {}
    per_try = Counter(
        (reservation.stage, reservation.try_number) for reservation in reservations if reservation.outcome == "success"
    )
    assert set(per_try.values()) == {1}


def test_no_device_was_ever_booked_beyond_its_room(world: World, run: str) -> None:
    by_device: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for reservation in world.reservations("kinds", run):
        for share in reservation.shares:
            assert reservation.ended_at is not None
            by_device[share.device].append((reservation.claimed_at, reservation.ended_at))
    for spans in by_device.values():
        spans.sort()
        assert all(begin >= end for (_, end), (begin, _) in pairwise(spans))


@pytest.mark.parametrize("world", [SQLITE, POSTGRES_MORE], indirect=True)
def test_a_large_answer_stays_on_its_node_and_reads_as_text(world: World) -> None:
    world.stack.api.wait_dag("stored_answer")
    run_id = world.stack.api.trigger("stored_answer")
    assert world.finished("stored_answer", run_id) == "success"
    path = f"/dags/stored_answer/dagRuns/{run_id}/taskInstances/long/xcomEntries/return_value"
    assert "size_bytes" in str(world.stack.api.call("GET", path, params={"stringify": True}).json()["value"])
    (again,) = [
        reservation for reservation in world.reservations("stored_answer", run_id) if reservation.task_id == "again"
    ]
    assert again.facts[0]["prompt_tokens"] > 40


@pytest.mark.parametrize("world", [SQLITE_MORE, POSTGRES], indirect=True)
def test_a_gateway_killed_in_mid_answer_costs_a_try_not_the_run(world: World) -> None:
    world.stack.api.wait_dag("slow_answers")
    run_id = world.stack.api.trigger("slow_answers")

    def answering() -> list[str]:
        live = [
            reservation for reservation in world.reservations("slow_answers", run_id) if reservation.ended_at is None
        ]
        return [reservation.shares[0].device for reservation in live if time.time() - reservation.claimed_at > 1.5]

    world.gateway(until(answering)[0]).kill()
    assert world.finished("slow_answers", run_id) == "success"
    reservations = world.reservations("slow_answers", run_id)
    failed = [reservation for reservation in reservations if reservation.outcome in ("up_for_retry", "replaced")]
    assert failed, "the kill came after the answer"
    for reservation in failed:
        (next_try,) = [
            r for r in reservations if r.stage == reservation.stage and r.try_number == reservation.try_number + 1
        ]
        assert next_try.shares[0].device != reservation.shares[0].device
    assert world.ledger.audit() == {}
    assert world.ledger.live() == []
