"""Which stages are ready as others end."""

from __future__ import annotations

from dataclasses import replace

from airflow_fate.replay.progress import Progress
from airflow_fate.workflow import StageRef
from tests.unit.replay.builders import chat


def ref(stage: str) -> StageRef:
    return StageRef("run", stage)


def test_stages_become_ready_when_the_last_of_their_parents_has_ended() -> None:
    progress = Progress([replace(chat("run"), arrival_s=5.0)])
    assert progress.first_ready("run") == [ref("question")]
    assert progress.ready_s(ref("question")) == 5.0
    assert progress.ended(ref("question"), 7.0) == [ref("search")]
    assert progress.ended(ref("search"), 9.0) == [ref("answer")]
    assert progress.ready_s(ref("answer")) == 9.0
    assert not progress.is_over
    assert progress.ended(ref("answer"), 12.0) == []
    assert progress.is_over
    assert progress.done_s("run") == 12.0


def test_nothing_of_a_failed_workflow_becomes_ready_and_it_is_over() -> None:
    progress = Progress([chat("run"), chat("next")])
    progress.fail("run", "no device")
    assert progress.ended(ref("question"), 1.0) == []
    assert not progress.is_over
    progress.fail("next", "no device")
    assert progress.is_over
    assert progress.failed == {"run": "no device", "next": "no device"}
