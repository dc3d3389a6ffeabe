"""Which blocks does an engine's prefix cache hold? A tree of token blocks, kept by what the engine tells. Pure.

The source of the events is vLLM (``vllm/distributed/kv_events.py``): a block's hash stands for all tokens up to its
end, and each stored block names the one before it. How the hashes are made need not be known: a prompt is found by its
tokens, block after block from the root.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Block = tuple[int, ...]
"""The token ids of one block."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's full blocks.

    :param scope: what else its blocks are kept apart by: a LoRA adapter, a tenant's salt.
    """

    blocks: tuple[Block, ...] = ()
    scope: tuple[str, ...] = ()

    def leading(self, tokens: int) -> Prompt:
        """Those blocks that lie within so many leading tokens."""
        return Prompt(self.blocks[: tokens // len(self.blocks[0])] if self.blocks else (), self.scope)


_Place = tuple[Hashable, tuple[str, ...], Block]
"""The hash of the block before, the scope of a first block, the tokens."""
_FIELDS = {
    "BlockStored": ("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name"),
    "BlockRemoved": ("block_hashes", "medium"),
    "AllBlocksCleared": (),
}
"""Order of an event's fields where it comes as a list, as older versions send it."""


class Blocks:
    """The blocks of one engine that are in its accelerator's memory."""

    def __init__(self) -> None:
        self.size = 0
        """Tokens of a block; 0 while nothing was stored."""
        self._by_place: dict[_Place, Hashable] = {}
        self._places: dict[Hashable, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def apply(self, event: Mapping[str, Any] | Sequence[Any]) -> bool:
        """One event, as msgpack decodes it; whether blocks went.

        :raises (KeyError, TypeError, ValueError): when it isn't one.
        """
        if not isinstance(event, Mapping):
            event = {"type": event[0], **dict(zip(_FIELDS[event[0]], event[1:], strict=False))}
        kind = event["type"]
        if kind == "AllBlocksCleared":
            self.clear()
            return True
        if event.get("medium") not in (None, "GPU") or event.get("group_idx"):
            # Offloaded copies and further attention groups don't say that a prompt is found here.
            return False
        if kind == "BlockStored":
            self._store(event)
            return False
        for name in event["block_hashes"]:
            self._remove(name)
        return True

    def clear(self) -> None:
        """Nothing is cached, or nothing is known any more."""
        self._by_place.clear()
        self._places.clear()

    def split(self, token_ids: Sequence[int], scope: tuple[str, ...]) -> Prompt:
        """A prompt by its tokens."""
        size = self.size
        starts = range(0, len(token_ids) - size + 1, size) if size else ()
        return Prompt(tuple(tuple(token_ids[start : start + size]) for start in starts), scope)

    def hold(self, prompt: Prompt) -> bool:
        """Whether all blocks of the prompt are held."""
        before: Hashable = None
        scope = prompt.scope
        for block in prompt.blocks:
            before = self._by_place.get((before, scope, block))
            if before is None:
                return False
            scope = ()
        return True

    def _store(self, event: Mapping[str, Any]) -> None:
        names, before, size = event["block_hashes"], event["parent_block_hash"], event["block_size"]
        extra = event.get("extra_keys") or ()
        self.size = size
        for k, name in enumerate(names):
            # What keeps prompts apart counts once: all further blocks hang on the first one's hash.
            scope: tuple[str, ...] = ()
            if before is None:
                first = extra[k] if extra else [event.get("lora_name")]
                scope = tuple(str(one) for one in first or () if one)
            place = (before, scope, tuple(event["token_ids"][k * size : (k + 1) * size]))
            self._remove(name)
            self._by_place[place], self._places[name] = name, place
            before = name

    def _remove(self, name: Hashable) -> None:
        place = self._places.pop(name, None)
        # Another block of the same tokens, with another picture in them, may have taken the place.
        if place is not None and self._by_place.get(place) == name:
            del self._by_place[place]
