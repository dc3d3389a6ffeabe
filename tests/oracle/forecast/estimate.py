"""When would a share of a stage end on one place, and what would it cost there?

The plain form, for one place and a state value, of what the planner's compiled quotes say; tests hold the two against
each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_fate.cluster import ClusterState, Residency
from airflow_fate.physics.costs import CostModel, CostParts
from tests.oracle.forecast import terms
from tests.oracle.forecast.demand import Demand
from tests.oracle.forecast.occupancy import closed_until_s, prefill_slot_free_s, slot_of, slots_free_s
from tests.oracle.forecast.prefix import cached_tokens
from tests.oracle.forecast.residency import EvictionCost, Room, make_room, used_until_s


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected of one share on one place.

    :param start_s: when it may be bound: there is room for its sequences, and its model fits.
    :param evict: (place, model) pairs that make room for its model.
    """

    start_s: float
    prefill_end_s: float
    finish_s: float
    parts: CostParts
    cached_tokens: int
    evict: tuple[tuple[str, str], ...] = ()


def inputs_s(demand: Demand, place: str, state: ClusterState) -> float:
    """Seconds to bring the outputs of the stage's parents to the place, one after another."""
    fleet = state.fleet
    node = fleet.nodes[fleet.members(place)[0].node]
    return sum(
        terms.transfer_s(output_bytes * share, node.gbps, fleet.latency_s)
        for parent, output_bytes in demand.inputs
        for source, share in state.outputs.get((demand.ref.workflow, parent), ())
        if source != node.id
    )


def least_recently_used(state: ClusterState, place: str) -> tuple[str, ...]:
    """Models on the place, longest unused first."""
    resident = state.place(place).resident
    return tuple(sorted(resident, key=lambda model: (resident[model].last_used_s, model)))


def loads_end_s(state: ClusterState, places: tuple[str, ...], now: float) -> float:
    """When the loads that are under way on these places have ended."""
    return max((r.ready_s for place in places for r in state.place(place).resident.values()), default=now)


def estimate(
    demand: Demand,
    prompts: int,
    place: str,
    state: ClusterState,
    costs: CostModel,
    now: float,
    eviction_cost_s: EvictionCost = lambda place, model: 0.0,
) -> Estimate | None:
    """The cost of ``prompts`` of the stage's prompts on the place; None when its model can never fit there.

    Evictions take what ``eviction_cost_s`` says hurts least, then what was used longest ago.
    """
    fleet = state.fleet
    if not fleet.can_hold(place, demand.model):
        return None
    overlaps = fleet.overlapping(place)
    resident: Residency | None = state.place(place).resident.get(demand.model)
    room: Room | None = Room(from_s=now)
    if resident is None:
        room = make_room(
            fleet,
            place,
            demand.model,
            {where: least_recently_used(state, where) for where in (place, *overlaps)},
            lambda where, model: used_until_s(state, where, now).get(model, now),
            overlaps,
            now,
            eviction_cost_s,
        )
    if room is None:
        return None
    model, here = fleet.models[demand.model], state.place(place)
    leader = fleet.members(place)[0]
    slots = slots_free_s(here, leader.max_seqs, now)
    start_s = max(slots[slot_of(prompts, leader.max_seqs)], closed_until_s(state, overlaps, now), room.from_s)
    if resident is not None:
        load = terms.load_s(start_s, resident.ready_s)
    else:
        start_s = max(start_s, loads_end_s(state, (place, *overlaps), now))
        in_host = demand.model in state.host_models.get(leader.node, frozenset())
        load = costs.read_s(model, leader.gpu, in_host)
    transfer = terms.shown_s(inputs_s(demand, place, state), load)
    wait = float(terms.wait_s(now, start_s, prefill_slot_free_s(here, now), load, transfer))
    cached = min(demand.prompt_tokens, cached_tokens(demand.chain, here.cached))
    tokens = terms.prefill_tokens(prompts, demand.prompt_tokens, cached, demand.shared_tokens)
    speeds = costs.speeds(model, leader.gpu, fleet.decode_slowdown)
    prefill = tokens / speeds.prefill_tps
    prefill_end_s = now + wait + load + transfer + prefill
    busy = sum(slot > prefill_end_s for slot in slots)
    output_tokens = costs.output_tokens(demand.model, demand.output_tokens)
    decode = float(terms.decode_s(output_tokens, speeds.decode_tps, speeds.decode_slowdown, busy + prompts))
    parts = CostParts(wait, load, transfer, prefill, decode)
    return Estimate(start_s, prefill_end_s, prefill_end_s + decode, parts, cached, room.evict)
