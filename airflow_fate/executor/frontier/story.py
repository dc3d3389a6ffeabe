"""What happened to a try of late? The last lines of many tries, so few that they are never too many.

A story is for a person who asks why a task stands where it stands (the manner of dask.distributed's ``story``).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime

KEPT_TRIES = 2000
KEPT_LINES = 16


@dataclass(frozen=True, slots=True)
class Line:
    """Something that happened to a try.

    :param at_s: Unix seconds; of what goes on, when it began.
    :param detail: of what goes on, the latest.
    """

    at_s: float
    what: str
    detail: str = ""

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="seconds")
        return f"{at} {self.what}: {self.detail}" if self.detail else f"{at} {self.what}"


class Stories:
    """Stories of the tries that were last heard of."""

    def __init__(self, kept_tries: int = KEPT_TRIES, kept_lines: int = KEPT_LINES) -> None:
        self._kept_tries = kept_tries
        self._kept_lines = kept_lines
        self._lines: OrderedDict[str, deque[Line]] = OrderedDict()

    def add(self, ti_id: str, line: Line) -> None:
        """Something happened to a try, or goes on: a try that is held again and again has one line for it."""
        lines = self._lines.setdefault(ti_id, deque(maxlen=self._kept_lines))
        self._lines.move_to_end(ti_id)
        if lines and lines[-1].what == line.what:
            lines[-1] = replace(lines[-1], detail=line.detail)
        else:
            lines.append(line)
        if len(self._lines) > self._kept_tries:
            self._lines.popitem(last=False)

    def of(self, ti_id: str) -> tuple[Line, ...]:
        """What is still known of a try, in the order in which it happened."""
        return tuple(self._lines.get(ti_id, ()))
