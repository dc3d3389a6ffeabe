"""Which prompt prefixes lie in the engines' caches? A pure LRU of chain keys under a budget of tokens.

It mirrors what the engines hold, as far as a gateway can know: what was asked, in which order, and when an engine
began anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class _Link:
    model: str
    tokens: int
    own_tokens: int
    last_used_s: float


class Prefixes:
    """Prefix chains of all models of one device, least recently used links out first."""

    def __init__(self, kv_tokens: int) -> None:
        self._kv_tokens = kv_tokens
        self._held_tokens = 0
        self._links: OrderedDict[str, _Link] = OrderedDict()

    def record(
        self,
        model: str,
        chain: Sequence[tuple[str, int]],
        now_s: float,
        *,
        conversation: str = "",
        conversation_tokens: int = 0,
    ) -> None:
        """After an answer: its chain is in the cache, and so is the conversation that it ended."""
        chain_tokens = sum(tokens for _, tokens in chain)
        # Innermost first: a link is worth nothing without the ones before it, so those must go last.
        if conversation:
            self._put(conversation, model, conversation_tokens, max(0, conversation_tokens - chain_tokens), now_s)
        for key, tokens in reversed(chain):
            self._put(key, model, tokens, tokens, now_s)
        while self._held_tokens > self._kv_tokens:
            self._held_tokens -= self._links.popitem(last=False)[1].own_tokens

    def forget(self, model: str) -> None:
        """The model's engine was restarted or unloaded."""
        for key in [key for key, link in self._links.items() if link.model == model]:
            self._drop(key)

    def found_tokens(self, chain: Sequence[tuple[str, int]]) -> int:
        """Leading tokens of the chain that should be in the cache."""
        tokens = 0
        for key, own_tokens in chain:
            if key not in self._links:
                break
            tokens += own_tokens
        return tokens

    def entries(self) -> tuple[tuple[str, int, float, str], ...]:
        """(chain key, tokens, last used, model), least recently used first."""
        return tuple((key, link.tokens, link.last_used_s, link.model) for key, link in self._links.items())

    @property
    def held_tokens(self) -> int:
        return self._held_tokens

    def _put(self, key: str, model: str, tokens: int, own_tokens: int, now_s: float) -> None:
        self._drop(key)
        self._links[key] = _Link(model, tokens, own_tokens, now_s)
        self._held_tokens += own_tokens

    def _drop(self, key: str) -> None:
        if key in self._links:
            self._held_tokens -= self._links.pop(key).own_tokens
