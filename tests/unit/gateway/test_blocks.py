"""The blocks of a prefix cache, by the events that vLLM sends."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.gateway.blocks import Blocks

SIZE = 2


def stored(names: list[str], before: str | None, token_ids: list[int], **more: Any) -> dict[str, Any]:
    event = {"type": "BlockStored", "block_hashes": names, "parent_block_hash": before, "token_ids": token_ids}
    return event | {"block_size": SIZE, "lora_id": None, "medium": "GPU", "lora_name": None} | more


def test_a_prompt_is_held_as_far_as_its_blocks_are() -> None:
    blocks = Blocks()
    assert not blocks.apply(stored(["a", "b"], None, [1, 2, 3, 4]))
    assert not blocks.apply(stored(["c"], "b", [5, 6]))
    prompt = blocks.split([1, 2, 3, 4, 5, 6, 7], ())
    assert len(prompt.blocks) == 3
    assert blocks.hold(prompt)
    assert not blocks.hold(blocks.split([1, 2, 9, 9], ()))
    assert blocks.apply({"type": "BlockRemoved", "block_hashes": ["c"], "medium": "GPU"})
    assert not blocks.hold(prompt)
    assert blocks.hold(prompt.leading(5))
    blocks.apply(stored(["c"], "b", [5, 6]))
    assert blocks.hold(prompt)
    # Without its first block, nothing behind it is found.
    blocks.apply({"type": "BlockRemoved", "block_hashes": ["a"], "medium": "GPU"})
    assert not blocks.hold(prompt.leading(4))


def test_salts_and_adapters_keep_prompts_apart() -> None:
    blocks = Blocks()
    blocks.apply(stored(["a", "b"], None, [1, 2, 3, 4], extra_keys=[["salt"], None]))
    blocks.apply(stored(["c"], None, [5, 6], lora_name="tuned", extra_keys=[["tuned"]]))
    assert blocks.hold(blocks.split([1, 2, 3, 4], ("salt",)))
    assert not blocks.hold(blocks.split([1, 2, 3, 4], ()))
    assert not blocks.hold(blocks.split([1, 2, 3, 4], ("other",)))
    assert blocks.hold(blocks.split([5, 6], ("tuned",)))


def test_events_of_older_versions_come_as_lists() -> None:
    blocks = Blocks()
    blocks.apply(["BlockStored", [11, 12], None, [1, 2, 3, 4], SIZE, None])
    assert blocks.hold(blocks.split([1, 2, 3, 4], ()))
    blocks.apply(["BlockRemoved", [12]])
    assert not blocks.hold(blocks.split([1, 2, 3, 4], ()))
    assert blocks.apply(["AllBlocksCleared"])
    assert len(blocks) == 0


@pytest.mark.parametrize("more", [{"medium": "CPU"}, {"group_idx": 1}])
def test_copies_elsewhere_do_not_count(more: dict[str, Any]) -> None:
    blocks = Blocks()
    blocks.apply(stored(["a"], None, [1, 2], **more))
    assert len(blocks) == 0


@pytest.mark.parametrize("event", [{}, {"type": "BlockStored"}, ["Unheard", 1], {"type": "BlockRemoved"}])
def test_what_makes_no_sense_is_refused(event: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Blocks().apply(event)
