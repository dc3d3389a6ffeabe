"""What is it run on? Nodes, devices (one engine each), device groups and models, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Node:
    """A machine.

    :param gbps: network bandwidth, in gigabits per second.
    :param host_bytes: host memory that keeps weights of recently loaded models.
    """

    id: str
    zone: str = ""
    gbps: float = 10.0
    host_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Device:
    """One engine pod.

    :param memory_bytes: room for model weights.
    :param kv_tokens: room for cached prefixes, in tokens of all models together.
    :param max_seqs: sequences that decode at once.
    :param serves: models that its engine can serve; None where that is up to memory and speeds alone.
    :param also: another spelling of its GPU's name, by which no speeds were looked up.
    :param batch_tokens: tokens that its engine computes in one step, prompts and decoding sequences together
        (vLLM's ``max_num_batched_tokens``, llama.cpp's ``n_batch``); 0 where prompts are computed beside the others.
    """

    id: str
    node: str
    gpu: str
    memory_bytes: float
    kv_tokens: int
    max_seqs: int
    serves: frozenset[str] | None = None
    also: str = ""
    batch_tokens: int = 0


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Devices that together serve a model which spans them; the first one leads."""

    id: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and its speeds.

    :param weights_bytes: memory for its weights (shared out over the members of a group).
    :param disk_bytes_per_s: load rate when the node's host memory lacks the weights.
    :param host_bytes_per_s: load rate when it has them.
    :param prefill_tps: prompt tokens per second, by GPU product.
    :param decode_tps: output tokens per second of a lone sequence, by GPU product.
    :param group_size: devices that it spans.
    :param decode_slowdown: relative slowdown of decoding for each further sequence, by GPU product; the fleet's where
        none is given.
    :param context_slowdown: likewise for each 1,000 tokens of context in the batch; 0 where none is given.
    """

    name: str
    weights_bytes: float
    disk_bytes_per_s: float
    host_bytes_per_s: float
    prefill_tps: Mapping[str, float]
    decode_tps: Mapping[str, float]
    group_size: int = 1
    decode_slowdown: Mapping[str, float] = field(default_factory=dict)
    context_slowdown: Mapping[str, float] = field(default_factory=dict)

    @property
    def member_bytes(self) -> float:
        """Weights on every device that serves it."""
        return self.weights_bytes / self.group_size

    def has_speeds(self, gpu: str) -> bool:
        """Whether anybody has measured it on such a GPU."""
        return gpu in self.prefill_tps and gpu in self.decode_tps


@dataclass(frozen=True)
class Fleet:
    """Everything that stages can run on. A *place* is a device or a group.

    :param decode_slowdown: relative slowdown of decoding per further sequence.
    :param latency_s: fixed part of each transfer between nodes.
    :param complete: whether this is all that there will be; what can't be served now never can then.
    :raises ValueError: when a device names an unknown node, a group an unknown device.
    """

    nodes: Mapping[str, Node]
    devices: Mapping[str, Device]
    models: Mapping[str, ModelSpec]
    groups: Mapping[str, DeviceGroup] = field(default_factory=dict)
    decode_slowdown: float = 0.03
    latency_s: float = 0.001
    complete: bool = True

    def __post_init__(self) -> None:
        for device in self.devices.values():
            if device.node not in self.nodes:
                raise ValueError(f"device {device.id!r}: node {device.node!r} is not in nodes")
        for group in self.groups.values():
            for member in group.devices:
                if member not in self.devices:
                    raise ValueError(f"group {group.id!r}: device {member!r} is not in devices")

    def members(self, place: str) -> tuple[Device, ...]:
        """The devices of a place: itself, or the group's members, leader first."""
        if place in self.groups:
            return tuple(self.devices[d] for d in self.groups[place].devices)
        return (self.devices[place],)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Ids of all devices, then of all groups."""
        return (*self.devices, *self.groups)

    @cached_property
    def _overlaps(self) -> dict[str, tuple[str, ...]]:
        return {}

    def overlapping(self, place: str) -> tuple[str, ...]:
        """Other places that share a device with this one: a group's members, a device's groups, and their kin."""
        if not self.groups:
            return ()
        if place not in self._overlaps:
            ids = {device.id for device in self.members(place)}
            self._overlaps[place] = tuple(
                sorted(
                    other
                    for other in self.places
                    if other != place and ids.intersection(device.id for device in self.members(other))
                )
            )
        return self._overlaps[place]

    def can_hold(self, place: str, model_name: str) -> bool:
        """Whether the place, emptied, could ever serve the model."""
        model = self.models.get(model_name)
        if model is None:
            return False
        members = self.members(place)
        return (
            len(members) == model.group_size
            and all(device.memory_bytes >= model.member_bytes for device in members)
            and model.has_speeds(members[0].gpu)
            and (members[0].serves is None or model_name in members[0].serves)
        )
