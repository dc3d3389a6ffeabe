"""What is true of the fleet now? Residency, prefix caches, running work and outputs, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_fate.cluster.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Residency:
    """A model on a place: ready at ``ready_s`` (in the past when it is loaded, ahead while it loads)."""

    model: str
    ready_s: float = 0.0
    last_used_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CachedSegment:
    """A link of a prefix chain in a place's cache, under its chain key.

    :param model: whose cache it is part of, and with which it goes; empty where that is not known.
    """

    tokens: int
    last_used_s: float = 0.0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """Work that is bound to a place and has not ended.

    :param sequences: prompts in flight.
    :param prefill_end_s: estimated end of its prefill.
    :param finish_s: estimated end.
    """

    workflow: str
    stage: str
    model: str
    sequences: int
    prefill_end_s: float
    finish_s: float


@dataclass(frozen=True)
class PlaceState:
    """What is true of one device or group.

    :param usable: False when it gets no new work: it is unready, drained, cordoned, distrusted, unseen for too long, or
        serves as a member of its group only.
    :param prefill_free_s: when the prefill slot is estimated to be free.
    :param cached: chain key -> what lies in the prefix cache.
    """

    resident: Mapping[str, Residency] = field(default_factory=dict)
    cached: Mapping[str, CachedSegment] = field(default_factory=dict)
    running: tuple[Running, ...] = ()
    prefill_free_s: float = 0.0
    usable: bool = True


@dataclass(frozen=True)
class ClusterState:
    """The fleet and what is true of each place.

    :param places: by device or group id; a place without an entry is empty and usable.
    :param host_models: node id -> models whose weights lie in its host memory.
    :param outputs: (workflow, stage) -> ((node id, share of the output's bytes), ...); absent for tools.
    """

    fleet: Fleet
    places: Mapping[str, PlaceState] = field(default_factory=dict)
    host_models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    outputs: Mapping[tuple[str, str], tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def place(self, place_id: str) -> PlaceState:
        return self.places.get(place_id, _EMPTY)


_EMPTY = PlaceState()
