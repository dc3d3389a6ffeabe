"""What may a forecast look at, when may a stage be bound, and what leaves for it?

The parts of a rule that forecasts read. Every field is a number, so that one compiled pass serves all policies.
"""

from __future__ import annotations

from typing import NamedTuple

LEAST_RECENT, NEXT_USE, FUTURE_NEED = range(3)
"""What a model is evicted by."""


class Sight(NamedTuple):
    """What counts of the state that a stage would meet."""

    sees_loads: int = 1
    sees_prefixes: int = 1
    sees_transfers: int = 1
    sees_arriving: int = 0
    """Whether prefixes that are on their way to a place count as lying there."""


class Timing(NamedTuple):
    """When a stage may be bound. None but ``bind_ahead_s`` is a time: a rule is as good where stages take minutes."""

    waits: int = 0
    """Whether places count that come free later, too."""
    overlap: float = 0.0
    """A stage may be bound so many of its own mean execution times before its sequence slots are free: its prompt is
    computed while those still decode whose slots it takes."""
    bind_ahead_s: float = 0.0
    """A stage may be bound this long before its prefill slot is free: where several epochs pass between two events."""


class Eviction(NamedTuple):
    """What leaves a place that lacks room, and what that is said to cost."""

    evict_by: int = LEAST_RECENT
    reload: float = 0.0
    """What a second of the loads counts that evictions will cause."""
    lost_prefixes: float = 0.0
    """What a second counts of computing again the prefixes that go with an evicted model, where no other place has
    them."""
