"""Which models lie where? Loads in the order in which they were asked for, one after another on each device."""

from __future__ import annotations

from collections.abc import Callable

from airflow_fate.cluster import Fleet
from tests.oracle.replay.caches import HostMemory
from tests.oracle.replay.clock import Clock
from tests.oracle.replay.state import Chip, Load, Place, Resident, Weights


class Loader:
    """The models of the fleet.

    :param loaded: called with the place when a load has ended.
    """

    def __init__(self, fleet: Fleet, clock: Clock, loaded: Callable[[Place], None]) -> None:
        self.models = fleet.models
        self.hosts = {name: HostMemory(node.host_bytes) for name, node in fleet.nodes.items()}
        self.asked: list[Load] = []
        self._clock, self._loaded = clock, loaded

    def ask(self, place: Place, model: str, why: str) -> None:
        spec = self.models[model]
        place.residents[model] = Resident()
        load = Load(place, model, why, place.has_room(spec))
        if load.has_room:
            place.take_room(spec)
        self.asked.append(load)

    def waits_for_room(self, place: Place) -> bool:
        return any(not load.has_room and load.place in (place, *place.sharing) for load in self.asked)

    def can_evict(self, place: Place, model: str) -> bool:
        resident = place.residents.get(model)
        return resident is not None and resident.state is Weights.LOADED and resident.users == 0

    def evict(self, place: Place, model: str) -> None:
        del place.residents[model]
        place.give_room(self.models[model])
        place.leader.cache.drop_model(place.id, model)
        self._clock.note("evict", device=place.id, model=model)

    def start(self) -> bool:
        """Start each load that is the first on all its devices and has room; whether there was one."""
        queued: set[Chip] = set()
        before = len(self.asked)
        for load in list(self.asked):
            chips = load.place.chips
            is_first = queued.isdisjoint(chips) and not any(chip.is_loading for chip in chips)
            spec = self.models[load.model]
            if is_first and not load.has_room and load.place.has_room(spec):
                load.place.take_room(spec)
                load.has_room = True
            if is_first and load.has_room:
                self.asked.remove(load)
                self._begin(load)
            else:
                queued.update(chips)
        return len(self.asked) < before

    def _begin(self, load: Load) -> None:
        place, spec = load.place, self.models[load.model]
        source = "host" if load.model in self.hosts[place.node.id] else "disk"
        bytes_per_s = spec.host_bytes_per_s if source == "host" else spec.disk_bytes_per_s
        seconds = place.share_bytes(spec) / bytes_per_s
        place.residents[load.model].state = Weights.LOADING
        for chip in place.chips:
            chip.is_loading = True
        self._clock.note("load", device=place.id, model=load.model, seconds=seconds, source=source, why=load.why)
        self._clock.at(self._clock.now_s + seconds, self._end, place, load.model)

    def _end(self, place: Place, model: str) -> None:
        place.residents[model].state = Weights.LOADED
        for chip in place.chips:
            chip.is_loading = False
        spec = self.models[model]
        self.hosts[place.node.id].keep(model, spec.weights_bytes, self._clock.now_s)
        self._loaded(place)
