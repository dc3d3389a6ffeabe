"""A replay's events and figures are those of the simulator's format."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.gateway.engines.base import Usage
from airflow_fate.messages import Facts
from airflow_fate.replay.ask import Answer
from airflow_fate.replay.log import Log, Served, summary, windows
from airflow_fate.simulator.simulate import simulate
from airflow_fate.workflow import StageRef
from tests.unit.replay.builders import FLEET, chat, workload

USAGE = Usage(100, 30, 10, 1.0, 2.0)


def served(*answers: Answer, **facts: Any) -> Served:
    told = Facts(reservation="r", device="d0", model="m", requests=len(answers), **facts)
    return Served("d0", "m", answers, told, ("other",), "host")


def test_the_windows_of_a_single_prompt_are_taken_from_its_end_backwards() -> None:
    at = windows(served(Answer(10.0, 20.0, "", USAGE), wait_s=1.0, load_s=3.0, prefill_s=1.0, decode_s=2.0))
    assert (at.load_s, at.loaded_s) == (11.0, 14.0)
    assert (at.prefill_s, at.prefilled_s, at.ended_s) == (17.0, 18.0, 20.0), "it waited within the engine"


def test_the_windows_of_a_batch_are_taken_from_its_beginning() -> None:
    answers = (Answer(10.0, 15.0, "", USAGE), Answer(10.1, 16.0, "", USAGE))
    at = windows(served(*answers, wait_s=1.0, prefill_s=2.0, decode_s=6.0))
    assert (at.prefill_s, at.prefilled_s, at.ended_s) == (11.0, 13.0, 16.0)


def test_where_an_engine_tells_no_phases_the_first_byte_ends_the_prompt() -> None:
    at = windows(served(Answer(10.0, 16.0, "", USAGE), wait_s=1.0, engine_s=5.0, first_byte_s=2.5))
    assert (at.prefill_s, at.prefilled_s, at.ended_s) == (11.0, 12.5, 16.0)


def test_no_window_is_longer_than_the_answer_took_whatever_a_gateway_says() -> None:
    at = windows(served(Answer(10.0, 11.0, "", USAGE), wait_s=5.0, load_s=9.0, prefill_s=7.0, decode_s=6.0))
    times = (at.load_s, at.loaded_s, at.prefill_s, at.prefilled_s, at.ended_s)
    assert list(times) == sorted(times)
    assert times[-1] == 11.0


def test_a_load_is_told_with_what_left_for_it() -> None:
    log = Log(10.0)
    answers = (Answer(10.0, 20.0, "", USAGE), Answer(10.0, 20.0, "", Usage(100, 90, 10)))
    log.served(StageRef("run", "a"), [served(*answers, load_s=2.0, prefill_s=1.0)], 10.0, 15.0)
    bind, evict, load, prefill, decode = log.events
    assert (bind["event"], bind["prompts"], bind["expected_end_s"]) == ("bind", 2, 5.0)
    assert (evict["event"], evict["model"], load["source"], load["seconds"]) == ("evict", "other", "host", 2.0)
    assert (prefill["event"], prefill["tokens"], prefill["cached"]) == ("prefill", 80, 30)
    assert (decode["event"], decode["t"] + decode["seconds"]) == ("decode", 10.0)


def test_figures_from_events_are_those_that_the_simulator_has() -> None:
    run = simulate(workload(chat("one"), chat("two")), FLEET, "round_robin")
    assert summary(run.events, [], run.summary["lower_bound_s"]) == pytest.approx(run.summary)


def test_there_are_no_figures_before_a_workflow_has_ended() -> None:
    run = simulate(workload(), FLEET, "round_robin")
    assert summary([event for event in run.events if event["event"] != "done"], [], 0.0) == {}
