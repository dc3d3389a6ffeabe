"""Where can a model run, from when, and what must leave for it? One row of all places per model of the frontier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from airflow_fate.cluster import ClusterState
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.estimate import least_recently_used, loads_end_s
from airflow_fate.physics.residency import Harm, make_room, used_until_s

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Row:
    """One model on every place.

    :param from_s: when it can be there: at once where it is resident, infinite where it never fits.
    :param gate_s: when the loads before it end, or when it is ready where it is resident or on its way.
    :param read_s: seconds to read its weights; 0 where it is resident or on its way.
    :param harm_s: seconds that the evictions for it cost others.
    """

    from_s: Floats
    gate_s: Floats
    read_s: Floats
    harm_s: Floats
    prefill_tps: Floats
    decode_tps: Floats
    evict: list[tuple[tuple[str, str], ...]]


class Rooms:
    """Residency of all places as placements change it."""

    def __init__(
        self,
        state: ClusterState,
        costs: CostModel,
        now: float,
        places: Sequence[str],
        overlaps: Sequence[tuple[str, ...]],
        models: Sequence[str],
        harm: Harm,
    ) -> None:
        self._state, self._costs, self._now, self._harm = state, costs, now, cache(harm)
        self._places, self._overlaps = places, overlaps
        self._at = {place: i for i, place in enumerate(places)}
        nearby = sorted({*places, *(other for others in overlaps for other in others)})
        self._residents = {place: list(least_recently_used(state, place)) for place in nearby}
        self._used_until_s = {place: used_until_s(state, place, now) for place in nearby}
        self._loads_end_s = [
            loads_end_s(state, (place, *others), now) for place, others in zip(places, overlaps, strict=True)
        ]
        self._rows: dict[str, Row] = {}
        for model in models:
            self._rows[model] = self._row(model)
            for at in range(len(places)):
                self._settle(model, at)

    def of(self, model: str) -> Row:
        return self._rows[model]

    def residents(self, at: int) -> tuple[str, ...]:
        return tuple(self._residents[self._places[at]])

    def is_idle(self, at: int, model: str) -> bool:
        return self._used_until_s[self._places[at]].get(model, self._now) <= self._now

    def is_resident(self, at: int, model: str) -> bool:
        return model in self._residents[self._places[at]]

    def take(
        self, at: int, model: str, ready_s: float, finish_s: float, start_s: float, bound: bool
    ) -> tuple[tuple[int, str], ...]:
        """A stage uses the model there until ``finish_s``; returns what its load evicts, as (place, model) pairs."""
        place, row = self._places[at], self._rows[model]
        used = self._used_until_s[place]
        used[model] = max(used.get(model, self._now), finish_s)
        lands = model not in self._residents[place]
        if not bound:
            self._unsettle(at, model)
            if lands:
                row.from_s[at], row.gate_s[at], row.read_s[at] = start_s, ready_s, 0.0
                row.harm_s[at], row.evict[at] = 0.0, ()
            return ()
        evicted = row.evict[at] if lands else ()
        for where, victim in evicted:
            self._residents[where].remove(victim)
        if not lands:
            self._residents[place].remove(model)
        self._residents[place].append(model)
        if not lands:
            self._unsettle(at, model)
            return ()
        for near in self._near(at):
            self._loads_end_s[near] = max(self._loads_end_s[near], ready_s)
            for other in self._rows:
                if other not in self._residents[self._places[near]]:
                    self._settle(other, near)
        row.from_s[at], row.gate_s[at], row.read_s[at] = self._now, ready_s, 0.0
        row.harm_s[at], row.evict[at] = 0.0, ()
        return tuple((self._at[where], victim) for where, victim in evicted if where in self._at)

    def _near(self, at: int) -> tuple[int, ...]:
        return (at, *(self._at[other] for other in self._overlaps[at] if other in self._at))

    def _unsettle(self, at: int, used_model: str) -> None:
        """A model came into use: who counted on its eviction must look again, or wait for it where all must leave."""
        pair = (self._places[at], used_model)
        for near in self._near(at) if self._overlaps[at] else (at,):
            for other, row in self._rows.items():
                if pair not in row.evict[near]:
                    continue
                if not self._overlaps[near] and len(row.evict[near]) == len(self._residents[pair[0]]):
                    row.from_s[near] = max(row.from_s[near], self._used_until_s[pair[0]][used_model])
                else:
                    self._settle(other, near)

    def _settle(self, model: str, at: int) -> None:
        row, place = self._rows[model], self._places[at]
        row.evict[at] = ()
        if not np.isfinite(row.prefill_tps[at]):
            return
        entry = self._state.place(place).resident.get(model)
        if entry is not None and model in self._residents[place]:
            row.from_s[at], row.gate_s[at], row.read_s[at], row.harm_s[at] = self._now, entry.ready_s, 0.0, 0.0
            return
        room = make_room(
            self._state.fleet,
            place,
            model,
            self._residents,
            lambda where, resident: self._used_until_s[where].get(resident, self._now),
            self._overlaps[at],
            self._now,
            self._harm,
        )
        if room is None:
            row.from_s[at] = np.inf
            return
        leader = self._state.fleet.members(place)[0]
        in_host = model in self._state.host_models.get(leader.node, frozenset())
        row.from_s[at], row.gate_s[at], row.evict[at] = room.from_s, self._loads_end_s[at], room.evict
        row.read_s[at] = self._costs.read_s(self._state.fleet.models[model], leader.gpu, in_host)
        row.harm_s[at] = sum(self._harm(where, victim) for where, victim in room.evict)

    def _row(self, model: str) -> Row:
        """Nowhere yet: speeds are infinite and the start never comes where the model cannot be held."""
        fleet, size = self._state.fleet, len(self._places)
        prefill, decode = np.full(size, np.inf), np.full(size, np.inf)
        for at, place in enumerate(self._places):
            if fleet.can_hold(place, model):
                gpu = fleet.members(place)[0].gpu
                prefill[at] = self._costs.prefill_tps(fleet.models[model], gpu)
                decode[at] = self._costs.decode_tps(fleet.models[model], gpu)
        nothing = np.zeros(size)
        return Row(np.full(size, np.inf), nothing.copy(), nothing.copy(), nothing.copy(), prefill, decode, [()] * size)
