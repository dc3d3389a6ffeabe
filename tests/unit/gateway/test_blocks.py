"""The blocks of a prefix cache, by the events that vLLM sends."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_fate.gateway.cache.blocks import Blocks, UnknownEvent

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


def test_lists_are_read_as_maps_are_whatever_is_appended() -> None:
    """Fields in the order of vLLM's, and three that nobody knows."""
    blocks = Blocks()
    more = ("GPU", None, [["salt"], None], 0, "full_attention", None, "LOCAL", "tier", "session")
    blocks.apply(["BlockStored", [b"a", b"b"], None, [1, 2, 3, 4], SIZE, None, *more])
    assert blocks.hold(blocks.split([1, 2, 3, 4], ("salt",)))
    assert not blocks.hold(blocks.split([1, 2, 3, 4], ()))
    blocks.apply(["BlockRemoved", [b"a"], "GPU", 1, "LOCAL", "tier"])
    assert blocks.hold(blocks.split([1, 2, 3, 4], ("salt",)))
    blocks.apply(["BlockRemoved", [b"a"], "GPU", 0, "LOCAL", "tier"])
    assert not blocks.hold(blocks.split([1, 2, 3, 4], ("salt",)))


def test_of_a_hybrid_models_groups_one_that_attends_to_everything_counts() -> None:
    blocks = Blocks()
    blocks.apply(stored(["a", "b"], None, [1, 2, 3, 4], group_idx=0, kv_cache_spec_kind="sliding_window"))
    assert len(blocks) == 0
    blocks.apply(stored(["a", "b"], None, [1, 2, 3, 4], group_idx=1, kv_cache_spec_kind="full_attention"))
    prompt = blocks.split([1, 2, 3, 4], ())
    assert blocks.hold(prompt)
    # Windows slide on, and what they leave behind goes under the same hashes.
    blocks.apply({"type": "BlockRemoved", "block_hashes": ["a", "b"], "medium": "GPU", "group_idx": 0})
    assert blocks.hold(prompt)
    blocks.apply({"type": "BlockRemoved", "block_hashes": ["b"], "medium": "GPU", "group_idx": 1})
    assert not blocks.hold(prompt)


def test_the_beginning_of_a_block_is_no_block() -> None:
    blocks = Blocks()
    blocks.apply(stored(["a"], None, [1, 2]))
    blocks.apply(stored(["b"], "a", [3], block_size=1))
    assert blocks.hold(blocks.split([1, 2, 3], ()))
    blocks.clear()
    blocks.apply(stored(["b"], None, [3], block_size=1))
    assert blocks.hold(blocks.split([3], ())), "another engine may have smaller blocks"


@pytest.mark.parametrize("event", [{"type": "BlockMoved", "to": 1}, ["BlockMoved", 1]])
def test_an_event_of_another_kind_is_told_from_one_that_makes_no_sense(event: Any) -> None:
    with pytest.raises(UnknownEvent, match="BlockMoved"):
        Blocks().apply(event)


@pytest.mark.parametrize("more", [{"medium": "CPU"}, {"group_idx": 1}])
def test_copies_elsewhere_do_not_count(more: dict[str, Any]) -> None:
    blocks = Blocks()
    blocks.apply(stored(["a"], None, [1, 2], **more))
    assert len(blocks) == 0


@pytest.mark.parametrize("event", [{}, [], 5, {"type": "BlockStored"}, {"type": "BlockRemoved"}])
def test_what_makes_no_sense_is_refused(event: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        Blocks().apply(event)
