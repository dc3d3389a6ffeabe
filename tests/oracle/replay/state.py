"""What is there, and in which state? The devices, places, shards and stages of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from airflow_fate.cluster import Device, Fleet, ModelSpec, Node
from airflow_fate.workflow import Stage, StageRef
from tests.oracle.replay.caches import Link, PrefixCache


class Weights(Enum):
    """How far a model is on a place."""

    ASKED = 1
    LOADING = 2
    LOADED = 3


@dataclass
class Resident:
    """A model on a place, or on its way there."""

    state: Weights = Weights.ASKED
    users: int = 0


@dataclass(eq=False)
class Chip:
    """A device."""

    spec: Device
    cache: PrefixCache
    used_bytes: float = 0.0
    is_loading: bool = False


@dataclass(eq=False)
class Shard:
    """Some prompts of a stage, bound to a place.

    :param order: how many were bound before it.
    :param tokens: of its prompts, that are computed; ``tokens_left`` of them, and later of its outputs.
    :param held: segments that it keeps in the cache.
    """

    ref: StageRef
    stage: Stage
    number: int
    order: int
    place: Place
    prompts: int
    inputs_s: float
    links: list[Link]
    held: list[Link] = field(default_factory=list)
    let_in: bool = False
    tokens: int = 0
    cached: int = 0
    tokens_left: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(eq=False)
class Place:
    """A device or a group.

    :param sharing: other places with a device of this one.
    :param unfinished: all that is bound to it, in that order.
    :param waiting: what waits for its model or its inputs.
    :param prefill_queue: the shard in the prefill slot, and behind it those that wait for it.
    :param standing: what waits for a slot.
    :param version: counts the changes of who decodes.
    """

    id: str
    node: Node
    chips: list[Chip]
    sharing: list[Place] = field(default_factory=list)
    residents: dict[str, Resident] = field(default_factory=dict)
    unfinished: list[Shard] = field(default_factory=list)
    waiting: list[Shard] = field(default_factory=list)
    prefill_queue: list[Shard] = field(default_factory=list)
    standing: list[Shard] = field(default_factory=list)
    decoding: list[Shard] = field(default_factory=list)
    progress_at_s: float = 0.0
    version: int = 0

    @property
    def leader(self) -> Chip:
        return self.chips[0]

    @property
    def sequences(self) -> int:
        return sum(shard.prompts for shard in self.decoding)

    def share_bytes(self, model: ModelSpec) -> float:
        return model.weights_bytes / len(self.chips)

    def has_room(self, model: ModelSpec) -> bool:
        share = self.share_bytes(model)
        return all(chip.used_bytes + share <= chip.spec.memory_bytes * (1 + 1e-12) for chip in self.chips)

    def take_room(self, model: ModelSpec) -> None:
        for chip in self.chips:
            chip.used_bytes += self.share_bytes(model)

    def give_room(self, model: ModelSpec) -> None:
        for chip in self.chips:
            chip.used_bytes -= self.share_bytes(model)


@dataclass(eq=False)
class Load:
    """A load that has not begun.

    :param has_room: its share of the memory is set aside.
    """

    place: Place
    model: str
    why: str
    has_room: bool


@dataclass(eq=False)
class Progress:
    """How far a stage is.

    :param unbound: prompts that are bound nowhere yet.
    """

    parents_left: int
    unbound: int
    is_ready: bool = False
    shards: list[Shard] = field(default_factory=list)
    shards_left: int = 0


def make_places(fleet: Fleet) -> dict[str, Place]:
    """The empty fleet."""
    chips = {device.id: Chip(device, PrefixCache(device.kv_tokens)) for device in fleet.devices.values()}
    places = {
        name: Place(
            name, fleet.nodes[fleet.members(name)[0].node], [chips[device.id] for device in fleet.members(name)]
        )
        for name in fleet.places
    }
    for place in places.values():
        place.sharing = [
            other for other in places.values() if other is not place and not set(other.chips).isdisjoint(place.chips)
        ]
    return places
