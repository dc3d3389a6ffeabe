"""How does a log stay small when somebody asks for trouble? A message is written a few times a minute, then counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

A_MINUTE = 10
PERIOD_S = 60.0
MOST_MESSAGES = 1024


class RepeatFilter(logging.Filter):
    """Lets a message, whatever its arguments, pass a few times a minute, and says then how often it was held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        """Logger and message -> when its minute began, and how often it came since."""

    def filter(self, record: logging.LogRecord) -> bool:
        now_s, kind = self._clock(), (record.name, str(record.msg)[:200])
        began_s, count = self._seen.get(kind, (now_s, 0))
        if now_s - began_s >= PERIOD_S:
            if count > A_MINUTE:
                record.msg = f"{record.msg} ({count - A_MINUTE} more of these were not written)"
            began_s, count = now_s, 0
        if kind not in self._seen and len(self._seen) >= MOST_MESSAGES:
            self._seen.clear()
        self._seen[kind] = (began_s, count + 1)
        return count < A_MINUTE
