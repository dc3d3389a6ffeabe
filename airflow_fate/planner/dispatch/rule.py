"""What may list policies differ in? The order of the frontier, what counts for a place, and what is done ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_fate.planner.forecast.sight import Eviction, Sight, Timing

EARLIEST_FINISH, CYCLIC, LEAST_LOADED, MODEL_AFFINITY, PREFIX_AFFINITY, EPP, DYNAMO = range(7)
"""What a place is chosen by."""


class Order(NamedTuple):
    """How urgent a stage is: the weighted sum of seconds, smallest first."""

    by_ready: float = 0.0
    """Since when it is ready."""
    by_arrival: float = 0.0
    """When its workflow arrived."""
    by_rank: float = 0.0
    """Its upward rank: the longest path from it to the end of its workflow."""
    by_work: float = 0.0
    """Work that its workflow has left."""
    by_served: float = 0.0
    """Service that its workflow has attained."""
    by_slack: float = 0.0
    """How much shorter its rank is than the longest of its workflow's frontier."""
    by_own: float = 0.0
    """Its own mean execution time."""


class Price(NamedTuple):
    """What a placement costs others: weights, each of the seconds that it is named by."""

    prefill: float = 0.0
    """Of the prefill slot, beyond the delay of the stage itself: they are taken from others."""
    recompute: float = 0.0
    """Of computing again what another place has cached, for each stage per place (up to four) that waits behind."""
    interference: float = 0.0
    """By which decoding sequences slow down each other."""
    contention: float = 0.0
    """On a place that others need more than the average place."""
    busy_period: float = 0.0
    """By which the last end on the place is put off: until then other models may lack the room."""


class Dispatch(NamedTuple):
    """How a pass over the frontier goes."""

    place: int = EARLIEST_FINISH
    push: int = 0
    """Bind at once, and queue at the place."""
    reserve: int = 0
    """Whether a stage that waits for a busy place is nominated for it before the stages behind it."""
    backfill: int = 0
    """Whether a stage that ends before such a nomination begins may go first."""
    depth: float = 0.25
    """Stages of each model that may wait for busy places in one pass, beyond the first few, per place."""
    yielding: float = 0.0
    """A stage that waits for a busy place may end later on an idle one: by so many times the delay that those behind it
    on the busy one are spared. The longest chain of those that wait never yields, others by how much shorter they
    are."""
    lookahead: float = 0.0
    """A stage whose parents will have ended within so many of its own mean execution times is nominated as if it were
    ready."""
    shards: float = 0.0
    """Split batches while ready stages per usable place are below this."""
    most_shards: int = 1 << 20
    prefetch: float = 0.0
    """Load ahead while ready stages per usable place are below this."""


class Rule(NamedTuple):
    """A list policy, in groups as they are read."""

    order: Order = Order()
    sight: Sight = Sight()
    timing: Timing = Timing()
    price: Price = Price()
    eviction: Eviction = Eviction()
    dispatch: Dispatch = Dispatch()


_GROUPS: dict[str, Any] = dict(Rule._field_defaults)
_FIELDS = {name: (group, type(default)) for group, part in _GROUPS.items() for name, default in part._asdict().items()}
"""Name of a number -> the group that it stands in, and its type."""


def changed(rule: Rule, **numbers: float) -> Rule:
    """The rule with some of its numbers changed, each with the type that compiled code wants.

    :raises ValueError: naming an unknown one, and the known ones.
    """
    if unknown := sorted(numbers.keys() - _FIELDS.keys()):
        raise ValueError(f"a rule has no {', '.join(unknown)}; it has {', '.join(_FIELDS)}")
    groups: dict[str, dict[str, float]] = {}
    for name, number in numbers.items():
        group, kind = _FIELDS[name]
        groups.setdefault(group, {})[name] = kind(number)
    return rule._replace(**{group: getattr(rule, group)._replace(**each) for group, each in groups.items()})


def make_rule(**numbers: float) -> Rule:
    """The plain rule, with these of its numbers; see ``changed``."""
    return changed(Rule(), **numbers)


def numbers_of(rule: Rule) -> Mapping[str, float]:
    """All numbers of a rule, by name."""
    return {name: getattr(getattr(rule, group), name) for name, (group, _) in _FIELDS.items()}
