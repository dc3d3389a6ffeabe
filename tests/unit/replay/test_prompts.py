"""Texts of a workload's lengths and shared beginnings."""

from __future__ import annotations

import pytest

from airflow_fate.replay.prompts import WORDS, Prompts, words
from airflow_fate.workflow import Segment, StageRef, Workflow
from tests.unit.replay.builders import chat, llm

QUESTION, ANSWER = StageRef("run", "question"), StageRef("run", "answer")


def prompts(*workflows: Workflow, salt: str = "a") -> Prompts:
    return Prompts({workflow.id: workflow for workflow in workflows}, salt)


def shared(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def test_each_word_has_three_letters_and_is_there_once() -> None:
    assert {len(word) for word in WORDS} == {3}
    assert len(set(WORDS)) == len(WORDS)


def test_prompts_have_as_many_words_as_tokens_and_begin_alike_as_far_as_their_segments() -> None:
    one, two = prompts(chat("run")).of(QUESTION)
    assert [len(text.split()) for text in (one, two)] == [100, 100]
    assert 70 * 4 <= shared(one, two) < 80 * 4


def test_equal_segment_keys_are_equal_text_in_all_workflows() -> None:
    made = prompts(chat("run"), chat("next"))
    here, there = made.of(QUESTION)[0], made.of(StageRef("next", "question"))[0]
    assert 70 * 4 <= shared(here, there) < 80 * 4
    again = prompts(chat("run"), salt="b").of(QUESTION)[0]
    assert shared(here, again) < 20, "another replay shares nothing"


def test_who_continues_begins_with_the_parents_prompt_and_answer() -> None:
    made = prompts(chat("run"))
    question = made.of(QUESTION)[0]
    made.answered(QUESTION, question, " yes no", 102)
    (answer,) = made.of(ANSWER)
    assert answer.startswith(question + " yes no")
    assert len(answer.split()) == 200


def test_a_conversation_that_is_longer_than_its_prompt_is_cut() -> None:
    made = prompts(chat("run"))
    made.answered(QUESTION, words("q", 300), words("a", 100), 400)
    (answer,) = made.of(ANSWER)
    assert len(answer.split()) == pytest.approx(200, abs=1)


def test_a_prompt_of_no_tokens_is_no_empty_text() -> None:
    run = Workflow("run", {"a": llm("a", prompt_tokens=0, prefix=(Segment("k", 0),))})
    assert [len(text.split()) for text in prompts(run).of(StageRef("run", "a"))] == [1]
