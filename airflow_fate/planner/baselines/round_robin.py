"""Late-binding round robin, to which every ratio is given (docs/physics.md, "Policies of reference").

One central queue, first come first served; the next place in cyclic order that can hold the model and is free (prefill
lane idle, room for the stage's sequences) takes the head of its queue. What was used longest ago is evicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_fate.cluster import ClusterState
from airflow_fate.physics import CostModel, Demand, Estimate, apply, demand_of, estimate
from airflow_fate.physics.occupancy import lane_free_s
from airflow_fate.planner.plan import Assignment, Hold, Impossible, Plan, PlanConfig, ReadyStage, Share
from airflow_fate.planner.reasons import why_impossible, why_nowhere
from airflow_fate.workflow import Workflow

_LOOK_AGAIN_S = 10.0


@dataclass
class RoundRobin:
    """The policy, with the turn it has come to.

    :param cursor: index of the place, in the order of their ids, that is asked first for the next stage.
    """

    cursor: int = 0

    def __call__(
        self,
        frontier: Sequence[ReadyStage],
        workflows: Mapping[str, Workflow],
        state: ClusterState,
        costs: CostModel,
        now: float,
        config: PlanConfig,
    ) -> Plan:
        assignments: list[Assignment] = []
        holds: list[Hold] = []
        impossible: list[Impossible] = []
        places = _usable_places(state)
        waiting: set[tuple[str, int]] = set()
        for ready in sorted(frontier, key=lambda ready: (ready.ready_s, ready.ref)):
            demand = demand_of(workflows[ready.ref.workflow], ready.ref.stage)
            refusal = why_impossible(state.fleet, demand.model)
            if refusal is not None:
                impossible.append(Impossible(ready.ref, refusal))
                continue
            # Places only fill up during one plan: who asks for no less than one who found nothing will find nothing.
            asks = (demand.model, demand.prompts)
            taken = None if asks in waiting else self._next_free(demand, ready.avoid, places, state, costs, now)
            if taken is None:
                if not ready.avoid:
                    waiting.add(asks)
                until_s = now + _LOOK_AGAIN_S
                nowhere = why_nowhere(state.fleet, demand.model)
                reason = nowhere or f"waits for the next free place that can hold {demand.model}"
                holds.append(Hold(ready.ref, "", until_s, reason))
                continue
            place, offer = taken
            state = apply(state, demand, demand.prompts, place, offer)
            self.cursor = (places.index(place) + 1) % len(places)
            assignments.append(
                Assignment(
                    ref=ready.ref,
                    model=demand.model,
                    shares=(Share(place, demand.prompts, offer.parts),),
                    start_s=now,
                    finish_s=offer.finish_s,
                    evict=offer.evict,
                    reason=f"{place}: next in turn",
                )
            )
        return Plan(tuple(assignments), tuple(holds), tuple(impossible), solver="round_robin")

    def _next_free(
        self,
        demand: Demand,
        avoid: frozenset[str],
        places: Sequence[str],
        state: ClusterState,
        costs: CostModel,
        now: float,
    ) -> tuple[str, Estimate] | None:
        able = [place for place in places if state.fleet.can_hold(place, demand.model)]
        avoided = avoid if any(place not in avoid for place in able) else frozenset[str]()
        turn = [*places[self.cursor :], *places[: self.cursor]]
        for place in turn:
            if place in avoided or lane_free_s(state.place(place), now) > now:
                continue
            offer = estimate(demand, demand.prompts, place, state, costs, now)
            if offer is not None and offer.start_s <= now:
                return place, offer
        return None


def _usable_places(state: ClusterState) -> tuple[str, ...]:
    """Places that may be given work now, by id."""
    return tuple(sorted(place for place in state.fleet.places if state.place(place).usable))
