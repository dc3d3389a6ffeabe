"""A DAG's runs, as the tables have them, become a workload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_fate.executor.runs.convert import RunShape, TaskShape
from airflow_fate.executor.runs.estimates import Estimator
from airflow_fate.messages import SegmentSpec, StageSpec
from airflow_fate.replay.recorded import NothingRecorded, RecordedRun, recorded
from airflow_fate.simulator.files import read_workload, write_workload
from airflow_fate.state.ledger import Reservation
from airflow_fate.workflow import StageRef
from tests.unit.executor.builders import reservation

SHARED = SegmentSpec(key="aa", tokens=60)
TASKS = {
    "ask": TaskShape("ask", StageSpec(model="", prefix=(SHARED,), expected_output_tokens=20)),
    "look": TaskShape("look", upstream=("ask",)),
    "answer": TaskShape("answer", StageSpec(model="m", continues="ask"), ("look",)),
    "elsewhere": TaskShape("elsewhere", StageSpec(model=""), ("ask",)),
}


def placed(task: str, outcome: str = "success", **facts: Any) -> Reservation:
    told = {"reservation": "r", "device": "d0", "model": "m", "requests": 1, **facts}
    return reservation("d0", task_id=task, outcome=outcome, facts=[told] if facts else None)


def run(name: str, arrival_s: float, *reservations: Reservation) -> RecordedRun:
    return RecordedRun(RunShape("dag", name, arrival_s, TASKS), reservations, {"look": 3.5, "elsewhere": 2.0})


ASK = placed("ask", prompt_tokens=50, completion_tokens=12)
ANSWER = placed("answer", prompt_tokens=90, completion_tokens=30)


def test_lengths_are_those_that_were_measured_and_tools_take_what_their_tasks_took(tmp_path: Path) -> None:
    found = recorded("dag", [run("second", 107.0, ASK, ANSWER), run("first", 100.0, ASK, ANSWER)], Estimator("k"))
    write_workload(tmp_path / "W.json", found.workload)
    assert read_workload(tmp_path / "W.json") == found.workload
    first, second = found.workload.workflows
    assert (first.id, first.arrival_s, second.arrival_s) == ("dag/first", 0.0, 7.0)
    ask, answer = first.stages["ask"], first.stages["answer"]
    assert (ask.model, ask.prompt_tokens, ask.expected_output_tokens) == ("m", 50, 20)
    assert [segment.tokens for segment in ask.prefix] == [50], "a beginning is no longer than its prompt"
    assert found.workload.output_tokens[StageRef("dag/first", "ask")] == 12
    assert (first.stages["look"].duration_s, first.stages["elsewhere"].duration_s) == (3.5, 2.0)
    assert answer.continues == "ask"
    assert ("ask", "answer") in first.edges
    assert found.estimated == ()


def test_the_last_good_try_counts() -> None:
    tries = (placed("ask", "failed", prompt_tokens=7, completion_tokens=7), ASK)
    found = recorded("dag", [run("first", 0.0, *tries)], Estimator("k"))
    assert found.workload.workflows[0].stages["ask"].prompt_tokens == 50


def test_of_what_nothing_was_measured_the_estimates_are_told() -> None:
    found = recorded("dag", [run("first", 0.0, placed("ask", "success"))], Estimator("k"))
    assert found.estimated == (StageRef("dag/first", "ask"),)
    assert found.workload.output_tokens[found.estimated[0]] == 20


def test_without_a_placement_there_is_no_workload() -> None:
    with pytest.raises(NothingRecorded, match="no run of dag"):
        recorded("dag", [run("first", 0.0)], Estimator("k"))
