"""What a task's connection decides: placed with its model, refused with a reason, or none of the fleet's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_fate.executor.runs.connections import (
    REFRESH_S,
    RETRY_S,
    Connections,
    Elsewhere,
    Known,
    NotKnownYet,
    Placed,
    Refused,
    judge,
    look_up,
)
from airflow_fate.messages import StageSpec

OURS = StageSpec(conn_id="c")
COMMON_AI = StageSpec(conn_id="c", only_on_fate=True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("spec", [OURS, COMMON_AI])
def test_the_connection_names_the_model(spec: StageSpec) -> None:
    assert judge(spec, Known("fate", "smol")) == Placed(spec.model_copy(update={"model": "smol"}))


def test_the_tasks_own_model_comes_first() -> None:
    own = StageSpec(conn_id="c", model="large")
    assert judge(own, Known("fate", "smol")) == Placed(own)


@pytest.mark.parametrize("known", [Known("openai", "gpt"), Known()])
def test_a_common_ai_task_with_another_connection_is_none_of_ours(known: Known) -> None:
    assert judge(COMMON_AI, known) == Elsewhere()


@pytest.mark.parametrize(
    ("spec", "known", "says"),
    [
        (OURS, Known(), "connection 'c' doesn't exist"),
        (OURS, Known("openai", "gpt"), "connection 'c' must be of type `fate` for this task, it is of type 'openai'"),
        (OURS, Known("fate"), "no model is named"),
        (COMMON_AI, Known("fate"), "extra of connection 'c'"),
        (COMMON_AI.model_copy(update={"problem": "t: model_id is a template"}), Known("fate", "m"), "is a template"),
    ],
)
def test_what_can_never_run_is_refused_with_the_next_step(spec: StageSpec, known: Known, says: str) -> None:
    verdict = judge(spec, known)
    assert isinstance(verdict, Refused)
    assert says in verdict.reason


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ('{"conn_type": "fate", "extra": {"model": "smol"}}', Known("fate", "smol")),
        ('{"conn_type": "fate"}', Known("fate")),
        ('{"conn_type": "fate", "extra": {"model": ["smol"]}}', Known("fate")),
        ("fate://?model=smol", Known("fate", "smol")),
    ],
)
def test_a_connection_of_the_environment_is_read_as_airflow_reads_it(
    monkeypatch: pytest.MonkeyPatch, value: str, known: Known
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FATE_BATCH", value)
    assert look_up("fate_batch") == known


def test_nobody_waits_for_a_slow_backend_and_the_answer_is_used_when_it_comes() -> None:
    may_answer = threading.Event()

    def find(conn_id: str) -> Known:
        may_answer.wait()
        return Known("fate", "smol")

    connections = Connections(find)
    connections.start()
    try:
        assert isinstance(connections.judge(OURS), NotKnownYet)
    finally:
        may_answer.set()
        connections.stop()
    assert isinstance(connections.judge(OURS), Placed)
    assert connections.version == 1


@contextmanager
def answering(connections: Connections) -> Iterator[None]:
    """What is asked inside is answered when the block ends."""
    connections.start()
    yield
    connections.stop()


def test_a_connection_is_asked_for_again_after_a_while_and_what_is_new_is_told() -> None:
    clock = Clock()
    answers = iter([Known("fate", "old"), Known("fate", "old"), Known("fate", "new")])
    connections = Connections(lambda conn_id: next(answers), clock)
    versions = []
    for _ in range(3):
        with answering(connections):
            connections.judge(OURS)
            connections.judge(OURS)
        versions.append(connections.version)
        clock.now += REFRESH_S
    assert versions == [1, 1, 2]
    assert connections.placed(OURS) == OURS.model_copy(update={"model": "new"})


def test_a_backend_that_fails_is_named_and_asked_again_soon() -> None:
    clock = Clock()
    asked: list[str] = []

    def fail(conn_id: str) -> Known:
        asked.append(conn_id)
        raise TimeoutError("the vault is sealed")

    connections = Connections(fail, clock)
    verdict = connections.judge_now(OURS)
    assert isinstance(verdict, NotKnownYet)
    assert "the vault is sealed" in verdict.reason
    clock.now += RETRY_S
    with answering(connections):
        connections.judge(OURS)
    assert asked == [OURS.conn_id] * 2


def test_what_was_known_outlives_a_backend_that_fails() -> None:
    answers = [Known("fate", "smol")]
    connections = Connections(lambda conn_id: answers.pop())
    connections.judge_now(OURS)
    with answering(connections):
        # There is no second answer.
        connections.judge(OURS)
    assert isinstance(connections.judge(OURS), Placed)
