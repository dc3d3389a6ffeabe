"""What is a promised prefix worth? As much as the engine took from its cache when it was promised before. Pure.

Some engines never reuse what a gateway thinks is there: their attention slides, their cache is smaller than was said,
or their chat template renders a conversation's past in another way. A few contradictions in a row, and a model's
prefixes count for what they proved to be, until one promise is kept.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque

LEAST_TOKENS = 64
"""Smaller promises say nothing: engines cache whole blocks only."""
KEPT = 0.5
"""A promise is kept where so much of it came true: chains are estimates."""
FEW = 3
_log = logging.getLogger(__name__)


class Promises:
    """What was promised of each model's cache, and what came of it."""

    def __init__(self) -> None:
        self._telling: set[str] = set()
        self._broken: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=FEW))
        """Model -> how much came true of its last promises, all of them broken."""

    def note(self, model: str, promised_tokens: int, cached_tokens: int | None) -> None:
        """An answer has ended.

        :param promised_tokens: of its prompt, as the chain's links said.
        :param cached_tokens: as the engine reported them; None where it said nothing.
        """
        if cached_tokens is not None:
            self._telling.add(model)
        # Some engines leave the count out where it is zero; others never tell it, and contradict nothing.
        if promised_tokens < LEAST_TOKENS or model not in self._telling:
            return
        was_doubted = self._is_doubted(model)
        proved = min(1.0, (cached_tokens or 0) / promised_tokens)
        if proved >= KEPT:
            self._broken.pop(model, None)
            if was_doubted:
                _log.info("%s reuses its prefixes again: they count in full", model)
            return
        self._broken[model].append(proved)
        if self._is_doubted(model) and not was_doubted:
            _log.warning(
                "%s: its engine took %d of %d promised tokens from its cache, the %d. time in a row; its prefixes "
                "count for %.0f %% of their tokens until that changes",
                *(model, cached_tokens or 0, promised_tokens, FEW, 100 * self.share(model)),
            )

    def share(self, model: str) -> float:
        """How much of a promise to believe."""
        return sum(self._broken[model]) / FEW if self._is_doubted(model) else 1.0

    def _is_doubted(self, model: str) -> bool:
        return model in self._broken and len(self._broken[model]) == FEW
