"""Which blocks does an engine's prefix cache hold? A tree of token blocks, kept by what the engine tells. Pure.

The source of the events is vLLM (``vllm/distributed/kv_events.py``): a block's hash stands for all tokens up to its
end, and each stored block names the one before it. How the hashes are made need not be known: a prompt is found by its
tokens, block after block from the root.

A model whose layers attend in several ways has a group of blocks for each. The same tokens have the same hash in all
of them; here counts one group whose layers attend to everything, without which no prompt is found.
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
    "BlockStored": (
        *("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name"),
        *("extra_keys", "group_idx", "kv_cache_spec_kind"),
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx"),
    "AllBlocksCleared": (),
}
"""Order of an event's fields where it comes as a list; whatever is appended is of later versions."""
_ATTEND_TO_ALL = ("full_attention", "mla_attention", "sink_full_attention")


class UnknownEvent(ValueError):
    """An event of a kind that says nothing here."""


class Blocks:
    """The blocks of one engine that are in its accelerator's memory."""

    def __init__(self) -> None:
        self.size = 0
        """Tokens of a block; 0 while nothing was stored."""
        self._group: int | None = None
        """The group that counts; None while none is known."""
        self._by_place: dict[_Place, Hashable] = {}
        self._places: dict[Hashable, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def apply(self, event: Mapping[str, Any] | Sequence[Any]) -> bool:
        """One event, as msgpack decodes it, a map or a list; whether blocks went.

        :raises UnknownEvent: when its kind is not known.
        :raises (LookupError, TypeError, ValueError): when it isn't one.
        """
        kind = event["type"] if isinstance(event, Mapping) else event[0]
        if kind not in _FIELDS:
            raise UnknownEvent(str(kind))
        if not isinstance(event, Mapping):
            event = dict(zip(_FIELDS[kind], event[1:], strict=False))
        if kind == "AllBlocksCleared":
            self._drop_all()
            return True
        names = event["block_hashes"]
        # Copies that lie elsewhere don't say that a prompt is found here.
        if event.get("medium") not in (None, "GPU") or not self._counts(kind, event):
            return False
        if kind == "BlockStored":
            return self._store(event)
        for name in names:
            self._remove(name)
        return True

    def clear(self) -> None:
        """Nothing is known any more; the next may be another engine."""
        self.size, self._group = 0, None
        self._drop_all()

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

    def _counts(self, kind: str, event: Mapping[str, Any]) -> bool:
        """Whether it is of the group that counts. Only what is stored says how its group attends."""
        group = event.get("group_idx") or 0
        if self._group is None and kind == "BlockStored":
            attends = event.get("kv_cache_spec_kind")
            if attends in _ATTEND_TO_ALL or (attends is None and group == 0):
                self._group = group
        return bool(group == self._group)

    def _store(self, event: Mapping[str, Any]) -> bool:
        names, before, size = event["block_hashes"], event["parent_block_hash"], event["block_size"]
        token_ids, extra = event["token_ids"], event.get("extra_keys") or ()
        if not isinstance(size, int):
            raise TypeError(f"a block's size is no number: {size!r}")
        if size < self.size:
            # The beginning of a block; prompts are looked for by whole ones.
            return False
        had_others = bool(self._places) and size != self.size
        if had_others:
            self._drop_all()
        self.size = size
        for k, name in enumerate(names):
            # What keeps prompts apart counts once: all further blocks hang on the first one's hash.
            scope: tuple[str, ...] = ()
            if before is None:
                first = extra[k] if extra else [event.get("lora_name")]
                scope = tuple(str(key) for key in first or () if key)
            place = (before, scope, tuple(token_ids[k * size : (k + 1) * size]))
            self._remove(name)
            self._by_place[place], self._places[name] = name, place
            before = name
        return had_others

    def _drop_all(self) -> None:
        self._by_place.clear()
        self._places.clear()

    def _remove(self, name: Hashable) -> None:
        place = self._places.pop(name, None)
        # Another block of the same tokens, with another picture in them, may have taken the place.
        if place is not None and self._by_place.get(place) == name:
            del self._by_place[place]
