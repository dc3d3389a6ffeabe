"""What does every place offer the next stage? All places at once, as numpy arrays, updated as stages are placed.

The vectorised twin of ``physics.estimate`` and ``physics.apply``: the same cost terms over one entry per usable place,
in the order of their ids. A stage that is bound changes residency and prefix cache as it will in fact; a stage that is
only held for a busy place reserves its turn there, and what it will leave behind counts for the stages after it, but
nothing is evicted for it yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airflow_fate.cluster import CachedSegment, ClusterState
from airflow_fate.physics import costs as terms
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.physics.demand import Demand
from airflow_fate.physics.occupancy import closed_until_s, lane_free_s, overlapping, seats
from airflow_fate.physics.prefix import forget, remember
from airflow_fate.physics.residency import Harm
from airflow_fate.planner.rooms import Rooms

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def usable_places(state: ClusterState) -> tuple[str, ...]:
    """Places that may be given work now, by id; a group is as usable as the least of its members."""
    fleet = state.fleet
    return tuple(
        sorted(
            place
            for place in fleet.places
            if state.place(place).usable and all(state.place(d.id).usable for d in fleet.members(place))
        )
    )


@dataclass(slots=True)
class Offers:
    """What the places offer one stage, one entry per place; ``start_s`` is infinite where it cannot run.

    :param future_s: what the choice costs those who come after: evictions that hurt, prefixes computed twice.
    """

    start_s: Floats
    wait_s: Floats
    load_s: Floats
    transfer_s: Floats
    prefill_s: Floats
    decode_s: Floats
    finish_s: Floats
    future_s: Floats
    cached_tokens: Floats

    def parts(self, at: int) -> CostParts:
        return CostParts(
            float(self.wait_s[at]),
            float(self.load_s[at]),
            float(self.transfer_s[at]),
            float(self.prefill_s[at]),
            float(self.decode_s[at]),
        )


class Outlook:
    """The state of the fleet as it will be once everything placed so far has begun.

    :param bind_ahead_s: a stage may be bound this long before the prefill lane comes free for it.
    """

    def __init__(
        self,
        state: ClusterState,
        costs: CostModel,
        now: float,
        demands: Iterable[Demand],
        harm: Harm,
        *,
        bind_ahead_s: float,
    ) -> None:
        fleet, demands = state.fleet, list(demands)
        self.state, self.costs, self.now = state, costs, now
        self.places = usable_places(state)
        self._bind_ahead_s = bind_ahead_s
        at = {place: i for i, place in enumerate(self.places)}
        leaders = [fleet.members(place)[0] for place in self.places]
        overlaps = [overlapping(fleet, place) for place in self.places]
        self._overlaps = [tuple(at[other] for other in others if other in at) for others in overlaps]
        self._kv_tokens = [leader.kv_tokens for leader in leaders]
        self.max_seqs = np.array([leader.max_seqs for leader in leaders], dtype=np.int64)
        self._seats = np.full((len(leaders), int(self.max_seqs.max(initial=1))), np.inf)
        for i, place in enumerate(self.places):
            self._seats[i, : leaders[i].max_seqs] = seats(state.place(place), leaders[i].max_seqs, now)
        self._busy = (np.isfinite(self._seats) & (self._seats > now)).sum(axis=1)
        self._lane_free_s = np.array([lane_free_s(state.place(place), now) for place in self.places])
        self._closed_until_s = np.array([closed_until_s(state, others, now) for others in overlaps])
        self._open_s = np.array([self._opens_s(at) for at in range(len(leaders))])
        self._nodes = np.array([leader.node for leader in leaders])
        self._gbps = np.array([fleet.nodes[leader.node].gbps for leader in leaders])
        self._nothing = np.zeros(len(leaders))
        self._transfers: dict[tuple[tuple[str, float], ...], Floats] = {}
        models = {demand.model for demand in demands}
        self._rooms = Rooms(state, costs, now, self.places, overlaps, sorted(models), harm)
        self._caches: dict[int, dict[str, CachedSegment]] = {}
        self._present: dict[str, Bools] = {
            segment.key: np.zeros(len(leaders), dtype=np.bool_) for demand in demands for segment in demand.chain
        }
        for i, place in enumerate(self.places):
            for key in state.place(place).cached:
                if key in self._present:
                    self._present[key][i] = True

    def offers(self, demand: Demand, prompts: int, copy_price: float = 0.0) -> Offers:
        """What each place offers ``prompts`` of the stage's prompts now.

        :param copy_price: what a second of computing a prefix again costs others, where another place has it.
        """
        rooms, now, fleet = self._rooms.of(demand.model), self.now, self.state.fleet
        start = np.maximum(self._open_s, rooms.from_s)
        if prompts > 1:
            start = np.maximum(start, self._seats[np.arange(len(start)), np.minimum(prompts, self.max_seqs) - 1])
        load = np.asarray(terms.load_s(start, rooms.gate_s, rooms.read_s))
        transfer = self._transfer_s(demand)
        wait = np.asarray(terms.wait_s(now, start, self._lane_free_s, load, transfer))
        cached = self._cached_tokens(demand)
        tokens = terms.prefill_tokens(prompts, demand.prompt_tokens, cached, demand.shared_tokens)
        prefill = np.asarray(terms.prefill_s(tokens, rooms.prefill_tps))
        sequences = np.minimum(self._busy, np.maximum(0, self.max_seqs - prompts)) + prompts
        output_tokens = self.costs.output_tokens(demand.model, demand.output_tokens)
        decode = np.asarray(terms.decode_s(output_tokens, rooms.decode_tps, fleet.decode_slowdown, sequences))
        finish = now + wait + load + transfer + prefill + decode
        future = rooms.harm_s
        if copy_price and demand.chain:
            future = future + copy_price * (cached.max(initial=0.0) - cached) / rooms.prefill_tps
        return Offers(start, wait, load, transfer, prefill, decode, finish, future, cached)

    def earliest_start_s(self, model: str) -> float:
        """When the first place that can serve the model has room for one sequence; infinite when there is none."""
        return float(np.maximum(self._open_s, self._rooms.of(model).from_s).min(initial=np.inf))

    def turns_within(self, model: str, until_s: float, turn_s: float) -> int:
        """Stages of ``turn_s`` each that could begin by then on the places that can serve the model."""
        ahead_s = until_s - self._seats[np.isfinite(self._rooms.of(model).from_s)]
        return int(np.ceil(ahead_s[ahead_s >= 0] / turn_s + 1e-9).sum())

    def first_turn(self, until_s: float) -> tuple[int, ...]:
        """Sequences that each place takes when it next has room; none where that is later than ``until_s``."""
        first = self._seats[:, :1]
        taken = ((self._seats == first) & (first <= until_s)).sum(axis=1)
        return tuple(taken.tolist())

    def overlaps(self, at: int) -> tuple[int, ...]:
        """Places that share a device with this one."""
        return self._overlaps[at]

    def residents(self, at: int) -> tuple[str, ...]:
        """Models on the place, longest unused first."""
        return self._rooms.residents(at)

    def idle_models(self, at: int) -> tuple[str, ...]:
        """Models on the place that no sequence uses."""
        return tuple(model for model in self._rooms.residents(at) if self._rooms.is_idle(at, model))

    def free_seats(self, at: int) -> int:
        return int((self._seats[at] <= self.now).sum())

    def is_resident(self, at: int, model: str) -> bool:
        return self._rooms.is_resident(at, model)

    def evictions(self, at: int, model: str) -> tuple[tuple[str, str], ...]:
        """(place, model) pairs that make room for the model there."""
        return self._rooms.of(model).evict[at]

    def can_serve(self, model: str) -> Bools:
        return np.isfinite(self._rooms.of(model).from_s)

    def reserve(self, demand: Demand, prompts: int, at: int, offers: Offers) -> None:
        """Place ``prompts`` of the stage on a place as it was offered: the stages after it find what it leaves."""
        start_s, finish_s = float(offers.start_s[at]), float(offers.finish_s[at])
        prefill_end_s = finish_s - float(offers.decode_s[at])
        taken = self._seats[at]
        taken[: min(prompts, int(self.max_seqs[at]))] = finish_s
        taken.sort()
        self._busy[at] = int((taken > self.now).sum()) - (len(taken) - int(self.max_seqs[at]))
        self._lane_free_s[at] = max(self._lane_free_s[at], prefill_end_s)
        for other in self._overlaps[at]:
            self._closed_until_s[other] = max(self._closed_until_s[other], finish_s)
            self._open_s[other] = self._opens_s(other)
        self._open_s[at] = self._opens_s(at)
        ready_s = start_s + float(offers.load_s[at])
        bound = start_s <= self.now
        for where, model in self._rooms.take(at, demand.model, ready_s, finish_s, start_s, bound):
            self._set_cache(where, forget(self._cache(where), {model}))
        if demand.chain:
            segments = (*demand.chain, demand.conversation)
            capacity = self._kv_tokens[at]
            self._set_cache(at, remember(self._cache(at), segments, demand.model, prefill_end_s, capacity))

    def _opens_s(self, at: int) -> float:
        """When the place takes one more sequence, whatever its model."""
        lane_s = float(self._lane_free_s[at]) - self._bind_ahead_s
        return max(float(self._seats[at, 0]), float(self._closed_until_s[at]), lane_s)

    def _transfer_s(self, demand: Demand) -> Floats:
        moves = tuple(
            (source, output_bytes * share)
            for parent, output_bytes in demand.inputs
            for source, share in self.state.outputs.get((demand.ref.workflow, parent), ())
        )
        if not moves:
            return self._nothing
        if moves not in self._transfers:
            seconds = np.zeros(len(self.places))
            for source, moved_bytes in moves:
                latency_s = self.state.fleet.latency_s
                seconds += np.where(self._nodes == source, 0.0, latency_s + moved_bytes * 8 / (self._gbps * 1e9))
            self._transfers[moves] = seconds
        return self._transfers[moves]

    def _cached_tokens(self, demand: Demand) -> Floats:
        """Tokens of the longest leading chain that each place has."""
        tokens, total = self._nothing, 0
        leading: Bools | None = None
        for segment in demand.chain:
            present = self._present[segment.key]
            leading = present if leading is None else leading & present
            total = min(demand.prompt_tokens, total + segment.tokens)
            tokens = np.where(leading, float(total), tokens)
        return tokens

    def _cache(self, at: int) -> dict[str, CachedSegment]:
        if at not in self._caches:
            self._caches[at] = dict(self.state.place(self.places[at]).cached)
        return self._caches[at]

    def _set_cache(self, at: int, after: dict[str, CachedSegment]) -> None:
        for key in self._cache(at).keys() - after.keys():
            if key in self._present:
                self._present[key][at] = False
        for key in after.keys() - self._cache(at).keys():
            if key in self._present:
                self._present[key][at] = True
        self._caches[at] = after
