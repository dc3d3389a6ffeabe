"""Which prompt prefixes lie in the engines' caches? A pure LRU of chain keys under a budget of tokens.

It mirrors what the engines hold, as far as a gateway can know: what was asked, in which order, and when an engine
began anew. Where an engine tells which blocks it caches, a prefix is known as long as they are there, whatever the
budget.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from airflow_fate.gateway.cache.blocks import Prompt


@dataclass(slots=True)
class _Link:
    model: str
    tokens: int
    own_tokens: int
    last_used_s: float
    salt: str
    prompt: Prompt = field(default_factory=Prompt)
    is_seen: bool = False
    """Whether the prompt was found in the engine's cache."""


class Prefixes:
    """Prefix chains of all models of one device, least recently used links out first."""

    def __init__(self, kv_tokens: int) -> None:
        self._kv_tokens = kv_tokens
        self._guessed_tokens = 0
        """Of those links whose blocks nobody has seen."""
        self._links: OrderedDict[str, _Link] = OrderedDict()

    def record(
        self,
        model: str,
        chain: Sequence[tuple[str, int]],
        now_s: float,
        *,
        conversation: str = "",
        conversation_tokens: int = 0,
        salt: str = "",
    ) -> None:
        """After an answer: its chain is in the cache, and so is the conversation that it ended.

        :param salt: what the engine keeps the prompt apart from others' by.
        """
        chain_tokens = sum(tokens for _, tokens in chain)
        # Innermost first: a link is worth nothing without the ones before it, so those must go last.
        if conversation:
            self._put(conversation, model, conversation_tokens, max(0, conversation_tokens - chain_tokens), now_s, salt)
        for key, tokens in reversed(chain):
            self._put(key, model, tokens, tokens, now_s, salt)
        if self._guessed_tokens > self._kv_tokens:
            for key in [key for key, link in self._links.items() if not link.is_seen]:
                self._drop(key)
                if self._guessed_tokens <= self._kv_tokens:
                    break

    def place(self, chain: Sequence[tuple[str, int]], conversation: str, prompt: Prompt) -> None:
        """Where a prompt lies in the engine's cache. Of a conversation, the blocks of its answer aren't known."""
        tokens = 0
        for key, own_tokens in (*chain, (conversation, sum(map(len, prompt.blocks)))):
            tokens += own_tokens
            if key in self._links:
                self._links[key].prompt = prompt.leading(tokens)

    def check(self, holds: Callable[[str, Prompt], bool]) -> None:
        """Forget the prefixes that were seen in the engine's cache and aren't there any more.

        :param holds: whether the engine of a model holds all blocks of a prompt.
        """
        for key, link in [item for item in self._links.items() if item[1].prompt.blocks]:
            is_there = holds(link.model, link.prompt)
            if is_there and not link.is_seen:
                link.is_seen = True
                self._guessed_tokens -= link.own_tokens
            elif link.is_seen and not is_there:
                self._drop(key)

    def forget(self, model: str, salt: str | None = None) -> None:
        """The model's engine was restarted or unloaded, or has dropped what one salt keeps apart."""
        gone = [key for key, link in self._links.items() if link.model == model and salt in (None, link.salt)]
        for key in gone:
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
        return sum(link.own_tokens for link in self._links.values())

    def _put(self, key: str, model: str, tokens: int, own_tokens: int, now_s: float, salt: str) -> None:
        self._drop(key)
        self._links[key] = _Link(model, tokens, own_tokens, now_s, salt)
        self._guessed_tokens += own_tokens

    def _drop(self, key: str) -> None:
        link = self._links.pop(key, None)
        if link is not None and not link.is_seen:
            self._guessed_tokens -= link.own_tokens
