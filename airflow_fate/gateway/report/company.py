"""Who else was in the engine meanwhile? What ran beside each answer, from which the law of engines is learned."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from airflow_fate.gateway.engines.base import Usage

REMEMBERED = 1024
"""So many of those that have left are remembered, while somebody is there who met them."""


@dataclass(slots=True, eq=False)
class Presence:
    """A request in the engine.

    :param prompt_tokens: that the engine computes of it; a guess until it has said how many.
    :param prefilled_s: when its prompt was computed; at once, until that is known.
    """

    entered_s: float
    prompt_tokens: float
    context_tokens: float
    prefilled_s: float
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """Means over the time in which an answer was decoded, and sums.

    :param sequences: of others that decoded.
    :param context_tokens: of all, its own among them.
    :param prompt_tokens: that were computed of others' prompts.
    :param with_prompt: likewise, while its own prompt was computed.
    """

    sequences: float
    context_tokens: float
    prompt_tokens: float
    with_prompt: float = 0.0


class Company:
    """The requests that are in the engine, and those that were there with them."""

    def __init__(self) -> None:
        self._here: set[Presence] = set()
        self._gone: deque[Presence] = deque(maxlen=REMEMBERED)

    def enter(self, now_s: float, prompt_tokens: float, cached_tokens: float) -> Presence:
        """:param prompt_tokens: of the whole prompt, as far as it can be guessed."""
        presence = Presence(now_s, max(1.0, prompt_tokens - cached_tokens), prompt_tokens, now_s)
        self._here.add(presence)
        return presence

    def prefilled(self, presence: Presence, now_s: float) -> None:
        """Its first token has come."""
        presence.prefilled_s = now_s

    def leave(self, presence: Presence, now_s: float, usage: Usage) -> Beside:
        """It was answered; what ran beside it.

        That is while it decoded, or in all its time in the engine where that tells no phases.
        """
        if usage.decode_s is not None:
            presence.prefilled_s = max(presence.entered_s, now_s - usage.decode_s)
        if usage.prompt_tokens:
            presence.prompt_tokens = max(1.0, usage.prompt_tokens - (usage.cached_tokens or 0))
            presence.context_tokens = usage.prompt_tokens + usage.completion_tokens / 2
        from_s = presence.entered_s if usage.decode_s is None else presence.prefilled_s
        beside = self._beside(presence, from_s, now_s)
        if usage.prefill_s is not None:
            begun_s = presence.prefilled_s - usage.prefill_s
            beside = replace(beside, with_prompt=self._prompt_tokens(presence, begun_s, presence.prefilled_s))
        self.forget(presence, now_s)
        return beside

    def forget(self, presence: Presence, now_s: float) -> None:
        """It has left the engine, answered or not."""
        if presence in self._here:
            self._here.remove(presence)
            presence.left_s = now_s
            self._gone.append(presence)
            since_s = min((other.entered_s for other in self._here), default=now_s)
            while self._gone and (self._gone[0].left_s or 0.0) < since_s:
                self._gone.popleft()

    def _others(self, presence: Presence) -> Iterator[Presence]:
        return (other for other in (*self._here, *self._gone) if other is not presence)

    def _beside(self, presence: Presence, from_s: float, to_s: float) -> Beside:
        length_s = max(to_s - from_s, 1e-9)
        sequences, context_tokens = 0.0, presence.context_tokens
        for other in self._others(presence):
            left_s = to_s if other.left_s is None else other.left_s
            share = _overlap_s(from_s, to_s, other.prefilled_s, left_s) / length_s
            sequences += share
            context_tokens += share * other.context_tokens
        return Beside(sequences, context_tokens, self._prompt_tokens(presence, from_s, to_s))

    def _prompt_tokens(self, presence: Presence, from_s: float, to_s: float) -> float:
        """Of others, that were computed in this time."""
        tokens = 0.0
        for other in self._others(presence):
            prefill_s = other.prefilled_s - other.entered_s
            if prefill_s > 0.0:
                share = _overlap_s(from_s, to_s, other.entered_s, other.prefilled_s) / prefill_s
                tokens += share * other.prompt_tokens
            elif from_s <= other.entered_s < to_s:
                tokens += other.prompt_tokens
        return tokens


def _overlap_s(begin_s: float, end_s: float, other_begin_s: float, other_end_s: float) -> float:
    return max(0.0, min(end_s, other_end_s) - max(begin_s, other_begin_s))
