"""What does a placement leave behind? The state after a share of a stage was bound to a place."""

from __future__ import annotations

from dataclasses import replace

from airflow_fate.cluster import ClusterState, PlaceState, Residency, Running
from tests.oracle.forecast.demand import Demand
from tests.oracle.forecast.estimate import Estimate
from tests.oracle.forecast.prefix import forget, remember


def apply(state: ClusterState, demand: Demand, prompts: int, place: str, estimate: Estimate) -> ClusterState:
    """The state that the next stages inherit: residency, prefixes, prefill, and where the output will lie."""
    places = dict(state.places)
    for where, model in estimate.evict:
        places[where] = _without(places.get(where, PlaceState()), model)
    leader = state.fleet.members(place)[0]
    before = places.get(place, PlaceState())
    resident = before.resident.get(demand.model)
    ready_s = resident.ready_s if resident else estimate.start_s + estimate.parts.load_s
    running = Running(
        *demand.ref, demand.model, prompts, prefill_end_s=estimate.prefill_end_s, finish_s=estimate.finish_s
    )
    places[place] = replace(
        before,
        resident={**before.resident, demand.model: Residency(demand.model, ready_s, estimate.finish_s)},
        cached=remember(
            before.cached, (*demand.chain, demand.conversation), demand.model, estimate.prefill_end_s, leader.kv_tokens
        ),
        running=(*before.running, running),
        prefill_free_s=max(before.prefill_free_s, estimate.prefill_end_s),
    )
    lies_at = (leader.node, prompts / demand.prompts)
    outputs = {**state.outputs, demand.ref: (*state.outputs.get(demand.ref, ()), lies_at)}
    return replace(state, places=places, host_models=_with_host_copy(state, leader.node, demand.model), outputs=outputs)


def _without(place: PlaceState, model: str) -> PlaceState:
    return replace(
        place,
        resident={name: entry for name, entry in place.resident.items() if name != model},
        cached=forget(place.cached, {model}),
    )


def _with_host_copy(state: ClusterState, node_id: str, model: str) -> dict[str, frozenset[str]]:
    """A load leaves the weights in the node's memory. Which copies it pushes out is not known here (the state does not
    say when each was used), so a copy that does not fit beside the others is not counted on."""
    models = state.host_models.get(node_id, frozenset()) | {model}
    held_bytes = sum(state.fleet.models[name].weights_bytes for name in models if name in state.fleet.models)
    if held_bytes > state.fleet.nodes[node_id].host_bytes:
        return dict(state.host_models)
    return {**state.host_models, node_id: models}
