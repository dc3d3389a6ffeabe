"""What may list policies differ in? The order of the frontier, what counts for a place, and what is done ahead."""

from __future__ import annotations

from typing import NamedTuple

EARLIEST_FINISH, CYCLIC, LEAST_LOADED, MODEL_AFFINITY, PREFIX_AFFINITY, EPP, DYNAMO, OPTIMISTIC, NEXT_USE_PLACE = range(
    9
)
"""What a place is chosen by."""

LEAST_RECENT, NEXT_USE, FUTURE_NEED = range(3)
"""What a model is evicted by."""


class Rule(NamedTuple):
    """A list policy. Stages are looked at by their key, smallest first: the weighted sum of the seconds named ``by_*``.

    Every field is a number, so that one compiled pass serves all policies. None but ``bind_ahead_s`` is a time, so
    that a rule is as good where stages take minutes.
    """

    by_ready: float = 0.0
    """Since when it is ready."""
    by_arrival: float = 0.0
    """When its workflow arrived."""
    by_rank: float = 0.0
    """Its upward rank: the longest path from it to the end of its workflow."""
    by_work: float = 0.0
    """Work that its workflow has left."""
    by_served: float = 0.0
    """Service that its workflow has got."""
    by_slack: float = 0.0
    """How much shorter its rank is than the longest of its workflow's frontier."""
    by_own: float = 0.0
    """Its own mean execution time."""
    place: int = EARLIEST_FINISH
    waits: int = 0
    """Whether places count that come free later, too."""
    reserve: int = 0
    """Whether a stage that waits for a busy place takes its turn there before the stages behind it."""
    backfill: int = 0
    """Whether a stage that ends before such a turn begins may go first."""
    depth: float = 0.25
    """Stages of each model that may wait for busy places in one pass, beyond the first few, per place."""
    push: int = 0
    """Bind at once, and queue at the place."""
    eviction: int = LEAST_RECENT
    harm: float = 0.0
    """What a second of the loads counts that evictions will cause."""
    reach: float = 0.0
    """What a second counts on a place that others need more than the average place."""
    crowd: float = 0.0
    """What a second counts by which decoding sequences slow down each other."""
    spend: float = 0.0
    """What a second of the prefill lane counts beyond the delay of the stage itself: it is taken from others."""
    rush: float = 0.0
    """What a second counts of computing again what another place has cached, for each stage per place (up to four) that
    waits behind; a place that nobody then wants is given to who waits for another."""
    keep: float = 0.0
    """What a second counts of computing again the prefixes that go with an evicted model, where no other place has
    them."""
    linger: float = 0.0
    """What a second counts by which the last end on the place is put off: until then other models may lack the room."""
    cede: float = 0.0
    """A stage that waits for a busy place may end later on an idle one, by so many times the delay that those behind it
    on the busy one are spared; the longest chain of those that wait never, others by how much shorter they are."""
    follows: int = 0
    """Whether prefixes that are on their way to a place count as lying there."""
    overlap: float = 0.0
    """A stage may be bound so many of its own mean execution times before its seats are free: its prompt is computed
    while those still decode whose seats it takes."""
    foresight: float = 0.0
    """A stage whose parents will have ended within so many of its own mean execution times takes its turn as if it were
    ready."""
    bind_ahead_s: float = 0.0
    """A stage may be bound this long before its lane is free: where several decisions pass between two events."""
    shards: float = 0.0
    """Split batches while ready stages per usable place are below this."""
    most_shards: int = 1 << 20
    prefetch: float = 0.0
    """Load ahead while ready stages per usable place are below this."""
    sees_loads: int = 1
    sees_prefixes: int = 1
    sees_transfers: int = 1


def rule(**fields: float) -> Rule:
    """A rule whose numbers have the types of its fields, as compiled code wants them."""
    kinds = {name: type(default) for name, default in Rule._field_defaults.items()}
    unknown = sorted(set(fields) - set(kinds))
    if unknown:
        raise ValueError(f"a rule has no {', '.join(unknown)}; it has {', '.join(kinds)}")
    return Rule(**{name: kinds[name](value) for name, value in fields.items()})
