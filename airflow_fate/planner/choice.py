"""What was decided about one stage? The planner's working value, before it is put into words."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.planner.plan import Share
from airflow_fate.planner.queue import Queued


@dataclass(frozen=True, slots=True)
class Rival:
    """The next best place, and how much later the stage would end there."""

    place: str
    later_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A stage's place (or shards), whether it starts now or waits there.

    :param future_s: what the choice costs those who come after.
    :param cached_tokens: of its first prompt, on its first place.
    :param resident: whether its model is there already.
    """

    queued: Queued
    shares: tuple[Share, ...]
    start_s: float
    finish_s: float
    evict: tuple[tuple[str, str], ...]
    future_s: float
    cached_tokens: int
    resident: bool
    rival: Rival | None = None

    @property
    def place(self) -> str:
        return self.shares[0].place


@dataclass(frozen=True, slots=True)
class Left:
    """A stage for which no place comes free within the horizon.

    :param behind: stages that are ahead of it in the queue.
    :param until_s: when the first place that can serve it comes free; infinite when none is usable.
    """

    queued: Queued
    behind: int
    until_s: float
