"""How does a fleet become arrays? Its places, devices and models, and how fast each model is on each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airflow_fate.cluster import Fleet, ModelSpec
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.world.arrays import DeviceRow, Floats, Ints, ModelRow, PlaceRow
from airflow_fate.physics.world.memo import remembered
from airflow_fate.physics.world.tables import Table, zeros

_NOBODY = (
    "prefill_shard",
    "prefill_head",
    "prefill_tail",
    "wait_head",
    "wait_tail",
    "slot_head",
    "slot_tail",
    "decode_head",
)


@dataclass(frozen=True)
class Csr:
    """Lists of numbers, one behind the other: those of ``i`` are ``indices[indptr[i] : indptr[i + 1]]``."""

    indptr: Ints
    indices: Ints


def csr(each: Sequence[Sequence[int]]) -> Csr:
    indices = np.array([index for indices in each for index in indices], dtype=np.int64)
    return csr_of(np.array([len(indices) for indices in each], dtype=np.int64), indices)


def csr_of(sizes: Ints, indices: Ints) -> Csr:
    indptr = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=indptr[1:])
    return Csr(indptr, indices)


class SpeedTables(NamedTuple):
    """Each model on each place, [model, place].

    :param prefill_tps: prompt tokens per second; 0 where the place can't hold the model, as ``decode_tps``.
    :param decode_tps: output tokens per second of a lone sequence without context.
    :param decode_slowdown: relative slowdown of decoding for each further sequence.
    :param context_slowdown: likewise for each token of context in the batch.
    """

    prefill_tps: Floats
    decode_tps: Floats
    decode_slowdown: Floats
    context_slowdown: Floats


@dataclass(frozen=True)
class FleetArrays:
    """What is true of a fleet whatever it does.

    :param gpu: index of the GPU product of each place.
    :param can_hold: [model, place]
    """

    models: tuple[str, ...]
    model_index: dict[str, int]
    specs: Table[ModelRow]
    places: Table[PlaceRow]
    place_index: dict[str, int]
    devices: Table[DeviceRow]
    members: Csr
    overlaps: Csr
    nodes: dict[str, int]
    host_bytes: Floats
    gpus: tuple[str, ...]
    gpu: Ints
    can_hold: NDArray[np.bool_]

    def speeds(self, fleet: Fleet, costs: CostModel) -> SpeedTables:
        """How fast each model is on each place."""
        prefill, decode, slowdown, context = (np.zeros((len(self.models), len(self.gpus))) for _ in range(4))
        for m, name in enumerate(self.models):
            spec = fleet.models[name]
            for g, gpu in enumerate(self.gpus):
                if spec.has_speeds(gpu):
                    speeds = costs.speeds(spec, gpu, fleet.decode_slowdown)
                    prefill[m, g], decode[m, g] = speeds.prefill_tps, speeds.decode_tps
                    slowdown[m, g], context[m, g] = speeds.decode_slowdown, speeds.context_slowdown / 1000.0
        able: Floats = self.can_hold.astype(np.float64)
        if costs.slowness:
            # A group is as slow as its slowest member.
            slowness = [max(costs.slowness.get(d.id, 1.0) for d in fleet.members(place)) for place in fleet.places]
            able /= np.array(slowness)
        return SpeedTables(
            self._by_place(prefill) * able,
            self._by_place(decode) * able,
            self._by_place(slowdown),
            self._by_place(context),
        )

    def load_factors(self, costs: CostModel) -> Floats:
        """[model, place] measured over described speed of loading."""
        factors = np.ones((len(self.models), len(self.gpus)))
        for m, name in enumerate(self.models):
            for g, gpu in enumerate(self.gpus):
                factors[m, g] = costs.load_factor.get((gpu, name), 1.0)
        return self._by_place(factors)

    def _by_place(self, by_gpu: Floats) -> Floats:
        return np.ascontiguousarray(by_gpu[:, self.gpu])


def fleet_arrays(fleet: Fleet) -> FleetArrays:
    """Worked out once for each fleet; who changes them takes a copy."""
    return remembered(fleet, "kernel", _arrays)


def _arrays(fleet: Fleet) -> FleetArrays:
    models = tuple(sorted(fleet.models))
    nodes = {name: index for index, name in enumerate(fleet.nodes)}
    device_index = {name: index for index, name in enumerate(fleet.devices)}
    members = [[device_index[device.id] for device in fleet.members(place)] for place in fleet.places]
    leaders = [fleet.members(place)[0] for place in fleet.places]
    gpus = tuple(sorted({device.gpu for device in fleet.devices.values()}))
    return FleetArrays(
        models=models,
        model_index={name: index for index, name in enumerate(models)},
        specs=_specs([fleet.models[name] for name in models]),
        places=_places(fleet, members, nodes),
        place_index={place: index for index, place in enumerate(fleet.places)},
        devices=_devices(fleet),
        members=csr(members),
        overlaps=csr(_overlaps(members) if fleet.groups else [[] for _ in members]),
        nodes=nodes,
        host_bytes=np.array([node.host_bytes for node in fleet.nodes.values()], dtype=np.float64),
        gpus=gpus,
        gpu=np.array([gpus.index(leader.gpu) for leader in leaders], dtype=np.int64),
        can_hold=np.array([[fleet.can_hold(place, name) for place in fleet.places] for name in models]).reshape(
            len(models), len(members)
        ),
    )


def _places(fleet: Fleet, members: Sequence[Sequence[int]], nodes: dict[str, int]) -> Table[PlaceRow]:
    places = zeros(PlaceRow, len(members))
    leaders = [fleet.members(place)[0] for place in fleet.places]
    places["node"] = [nodes[leader.node] for leader in leaders]
    places["home"] = [devices[0] for devices in members]
    places["size"] = [len(devices) for devices in members]
    places["max_seqs"] = [leader.max_seqs for leader in leaders]
    places["batch_tokens"] = [leader.batch_tokens for leader in leaders]
    places["gbps"] = [fleet.nodes[leader.node].gbps for leader in leaders]
    places["usable"] = 1
    places["step"] = places["stretch"] = 1.0
    for name in _NOBODY:
        places[name] = -1
    return places


def _devices(fleet: Fleet) -> Table[DeviceRow]:
    devices = zeros(DeviceRow, len(fleet.devices))
    devices["memory_bytes"] = [device.memory_bytes for device in fleet.devices.values()]
    devices["kv_tokens"] = [device.kv_tokens for device in fleet.devices.values()]
    devices["oldest"] = devices["newest"] = -1
    return devices


def _specs(specs: Sequence[ModelSpec]) -> Table[ModelRow]:
    rows = zeros(ModelRow, len(specs))
    for name in ("weights_bytes", "group_size", "disk_bytes_per_s", "host_bytes_per_s"):
        rows[name] = [getattr(spec, name) for spec in specs]
    return rows


def _overlaps(members: Sequence[Sequence[int]]) -> list[list[int]]:
    """Of each place, the others that share a device with it."""
    sets = [set(mine) for mine in members]
    return [[j for j, theirs in enumerate(sets) if j != i and mine & theirs] for i, mine in enumerate(sets)]
