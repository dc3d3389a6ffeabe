"""What happened to a try of late? The last lines of its story, and of the stories of those that went before it.

A story is for a person who asks why a task stands where it stands (the manner of dask.distributed's ``story``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

KEPT_GONE = 1000
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
    """Stories of all tries that are here, and of those that went last.

    :param kept_gone: of how many that have gone.
    :param kept_lines: of each story.
    """

    def __init__(self, kept_gone: int = KEPT_GONE, kept_lines: int = KEPT_LINES) -> None:
        self._kept_gone = kept_gone
        self._kept_lines = kept_lines
        self._lines: dict[str, deque[Line]] = {}
        self._gone: dict[str, None] = {}
        """Tries that have gone, in the order in which they went."""

    def add(self, ti_id: str, line: Line) -> None:
        """Something happened to a try, or goes on: a try that is held again and again has one line for it."""
        self._gone.pop(ti_id, None)
        lines = self._lines.get(ti_id)
        if lines is None:
            self._lines[ti_id] = deque([line], self._kept_lines)
        elif lines[-1].what == line.what:
            lines[-1] = Line(lines[-1].at_s, line.what, line.detail)
        else:
            lines.append(line)

    def end(self, ti_id: str, line: Line) -> None:
        """A try goes, in this way."""
        self.add(ti_id, line)
        self._gone[ti_id] = None
        if len(self._gone) > self._kept_gone:
            oldest = next(iter(self._gone))
            del self._gone[oldest], self._lines[oldest]

    def of(self, ti_id: str) -> tuple[Line, ...]:
        """What is still known of a try, in the order in which it happened."""
        return tuple(self._lines.get(ti_id, ()))
