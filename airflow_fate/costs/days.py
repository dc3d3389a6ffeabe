"""Where does a day begin? At midnight in UTC. Pure."""

from __future__ import annotations

from collections.abc import Iterator

DAY_S = 86_400.0


def day_of(at: float) -> float:
    """Midnight before a time, Unix seconds."""
    return at - at % DAY_S


def days(since: float, until: float) -> Iterator[tuple[float, float]]:
    """A range by days, so that no more than a day's rows need be in memory at once."""
    while since < until:
        end_at = min(day_of(since) + DAY_S, until)
        yield since, end_at
        since = end_at
