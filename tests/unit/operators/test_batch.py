"""How a batch is shared out, and what is kept of it when some prompts fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_fate.messages import Binding, Share
from airflow_fate.operators.batch import Answers, PromptsFailed, ask_missing


def share(device: str, prompts: int, sequences: int = 0) -> Share:
    return Share(device=device, node="n", url="http://127.0.0.1", token="t", prompts=prompts, sequences=sequences)


def bound(*shares: Share) -> Binding:
    return Binding(reservation="r", ti_id="t", try_number=1, shares=shares)


@pytest.mark.parametrize(("sequences", "most"), [(2, 2), (5, 5), (0, 6)])
def test_no_more_prompts_are_asked_at_once_than_the_device_has_sequences_for(sequences: int, most: int) -> None:
    running: list[int] = []
    seen: list[int] = []

    async def ask(index: int, share: Share | None) -> str:
        running.append(index)
        seen.append(len(running))
        for _ in range(10):
            await asyncio.sleep(0)
        running.remove(index)
        return str(index)

    answers = Answers(list("abcdef"), str)
    asyncio.run(ask_missing(answers, bound(share("d", 6, sequences)), ask))
    assert max(seen) == most
    assert answers.in_order() == list("012345")


def test_only_what_is_missing_is_shared_out() -> None:
    asked: dict[str, list[int]] = {"d0": [], "d1": []}

    async def ask(index: int, share: Share | None) -> str:
        assert share is not None
        asked[share.device].append(index)
        return "new"

    answers = Answers(list("abcd"), str)
    answers.known = {0: "old", 2: "old"}
    asyncio.run(ask_missing(answers, bound(share("d0", 1), share("d1", 3)), ask))
    assert asked == {"d0": [1], "d1": [3]}
    assert answers.in_order() == ["old", "new", "old", "new"]


def test_all_prompts_are_asked_though_some_fail() -> None:
    async def ask(index: int, share: Share | None) -> str:
        if index < 2:
            raise ValueError(f"no {index}")
        return "yes"

    answers = Answers(list("abc"), str)
    with pytest.raises(PromptsFailed, match=r"2 of 3 prompts failed, the first of them prompts\[0\]: no 0"):
        asyncio.run(ask_missing(answers, None, ask))
    assert answers.known == {2: "yes"}


@pytest.mark.parametrize(
    "kept", ["", "{}", "[]", '{"digest": 1}', '{"digest": "x", "answers": {"0": "not json"}}', "\x00"]
)
def test_kept_answers_that_make_no_sense_are_asked_again(kept: str) -> None:
    answers = Answers(["a"], str)
    answers.take_in(kept)
    assert answers.missing == [0]


@pytest.mark.parametrize(
    ("output_type", "value"), [(str, "a"), (int, 3), (list[str], ["a"]), (dict[str, int], {"a": 1}), (int | str, "b")]
)
def test_an_answer_of_any_type_is_kept_as_it_is(output_type: Any, value: Any) -> None:
    first, second = Answers(["a", "b"], output_type), Answers(["a", "b"], output_type)
    first.known[1] = value
    kept = first.kept()
    assert kept is not None
    second.take_in(kept)
    assert second.known == {1: value}
