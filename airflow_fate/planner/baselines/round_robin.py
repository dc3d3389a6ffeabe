"""Late-binding round robin, to which every ratio is given (docs/physics.md, "Policies of reference").

One central queue, first come first served; the next place in cyclic order that can hold the model and is free (prefill
slot idle, room for the stage's sequences) takes the head of its queue. What was used longest ago is evicted. In plain
Python: it decides when the compiled planner can't.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_fate.cluster import ClusterState
from airflow_fate.physics import terms
from airflow_fate.physics.costs import CostModel, CostParts
from airflow_fate.planner.plan import Assignment, Hold, Impossible, Plan, PlanConfig, Problem, ReadyStage, Share
from airflow_fate.planner.reasons import why_impossible, why_nowhere
from airflow_fate.workflow import Stage, Workflow

_LOOK_AGAIN_S = 10.0
Evictions = tuple[tuple[str, str], ...]


@dataclass
class RoundRobin:
    """The policy, with the place it has come to.

    :param cursor: index of the place, in the order of their ids, that is asked first for the next stage.
    """

    cursor: int = 0

    def __call__(self, problem: Problem, config: PlanConfig) -> Plan:
        assignments: list[Assignment] = []
        holds: list[Hold] = []
        impossible: list[Impossible] = []
        state, now = problem.state, problem.now
        dispatch = _Dispatch(state, problem.costs, now)
        waiting: set[tuple[str, int]] = set()
        for ready in sorted(problem.frontier, key=lambda ready: (ready.ready_s, ready.ref)):
            workflow = problem.workflows[ready.ref.workflow]
            stage = workflow.stages[ready.ref.stage]
            refusal = why_impossible(state.fleet, stage.model)
            if refusal is not None:
                impossible.append(Impossible(ready.ref, refusal))
                continue
            # Places only fill up during one plan: who asks for no less than one who found nothing will find nothing.
            asks = (stage.model, stage.prompts)
            place = None if asks in waiting else self._next_free(stage, ready.avoid, dispatch)
            if place is None:
                if not ready.avoid:
                    waiting.add(asks)
                nowhere = why_nowhere(state.fleet, stage.model)
                reason = nowhere or f"waits for the next free place that can hold {stage.model}"
                holds.append(Hold(ready.ref, "", now + _LOOK_AGAIN_S, reason))
                continue
            self.cursor = (dispatch.places.index(place) + 1) % len(dispatch.places)
            assignments.append(dispatch.bind(workflow, stage, place, ready))
        return Plan(tuple(assignments), tuple(holds), tuple(impossible), solver="round_robin")

    def _next_free(self, stage: Stage, avoid: frozenset[str], dispatch: _Dispatch) -> str | None:
        able = [place for place in dispatch.places if dispatch.state.fleet.can_hold(place, stage.model)]
        avoided = avoid if any(place not in avoid for place in able) else frozenset[str]()
        cyclic = [*dispatch.places[self.cursor :], *dispatch.places[: self.cursor]]
        return next(
            (place for place in cyclic if place in able and place not in avoided and dispatch.is_free(place, stage)),
            None,
        )


@dataclass
class _Dispatch:
    """One plan in the making: a place takes one stage, whose prompt then has its prefill slot."""

    state: ClusterState
    costs: CostModel
    now: float
    busy: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        fleet = self.state.fleet
        self.places = tuple(sorted(place for place in fleet.places if self.state.place(place).usable))

    def is_free(self, place: str, stage: Stage) -> bool:
        fleet, here = self.state.fleet, self.state.place(place)
        nearby = fleet.overlapping(place)
        if self.busy.intersection((place, *nearby)) or any(self.state.place(other).running for other in nearby):
            return False
        max_seqs = fleet.members(place)[0].max_seqs
        in_flight = sum(min(running.sequences, max_seqs) for running in here.running)
        if here.running and (here.prefill_free_s > self.now or in_flight + min(stage.prompts, max_seqs) > max_seqs):
            return False
        return stage.model in here.resident or self._evictions(place, stage.model) is not None

    def bind(self, workflow: Workflow, stage: Stage, place: str, ready: ReadyStage) -> Assignment:
        self.busy.add(place)
        evict = () if stage.model in self.state.place(place).resident else self._evictions(place, stage.model) or ()
        parts = self._parts(workflow, stage, place)
        return Assignment(
            ref=ready.ref,
            model=stage.model,
            shares=(Share(place, stage.prompts, parts),),
            start_s=self.now,
            finish_s=self.now + parts.total_s,
            evict=evict,
            reason=f"{place}: next in turn",
        )

    def _evictions(self, place: str, model: str) -> Evictions | None:
        """What makes room now, longest unused first; None where models in use or on their way leave none."""
        fleet = self.state.fleet
        nearby = (place, *fleet.overlapping(place))
        residents = [(where, resident) for where in nearby for resident in self.state.place(where).resident.values()]
        if any(resident.ready_s > self.now for _, resident in residents):
            return None
        in_use = {(place, running.model) for running in self.state.place(place).running}
        on = {where: {device.id for device in fleet.members(where)} for where in nearby}
        spare = {d.id: d.memory_bytes - fleet.models[model].member_bytes for d in fleet.members(place)}
        held = [(where, resident) for where, resident in residents if resident.model in fleet.models]
        for where, resident in held:
            _add(spare, on[where], -fleet.models[resident.model].member_bytes)
        evict: list[tuple[str, str]] = []
        for where, resident in sorted(held, key=lambda pair: (pair[1].last_used_s, pair[0], pair[1].model)):
            if (where, resident.model) not in in_use and any(spare[device] < 0 for device in on[where] & spare.keys()):
                _add(spare, on[where], fleet.models[resident.model].member_bytes)
                evict.append((where, resident.model))
        return tuple(evict) if min(spare.values()) >= 0 else None

    def _parts(self, workflow: Workflow, stage: Stage, place: str) -> CostParts:
        fleet, here = self.state.fleet, self.state.place(place)
        model, leader = fleet.models[stage.model], fleet.members(place)[0]
        resident = here.resident.get(stage.model)
        if resident is not None:
            load = max(0.0, resident.ready_s - self.now)
        else:
            in_host = stage.model in self.state.host_models.get(leader.node, frozenset())
            load = self.costs.read_s(model, leader.gpu, in_host)
        moved = sum(
            terms.transfer_s(
                workflow.stages[parent].output_bytes * share, fleet.nodes[leader.node].gbps, fleet.latency_s
            )
            for parent in workflow.parents(stage.id)
            for source, share in self.state.outputs.get((workflow.id, parent), ())
            if source != leader.node
        )
        chain = workflow.chain(stage.id)
        cached = 0
        for segment in chain:
            if segment.key not in here.cached:
                break
            cached += segment.tokens
        shared = min(stage.prompt_tokens, sum(segment.tokens for segment in chain))
        tokens = terms.prefill_tokens(
            stage.prompts, stage.prompt_tokens, terms.reusable_tokens(cached, stage.prompt_tokens), shared
        )
        beside = sum(running.sequences for running in here.running)
        speeds = self.costs.speeds(model, leader.gpu, fleet.decode_slowdown)
        own_context = terms.context_tokens(stage.prompts, stage.prompt_tokens, stage.expected_output_tokens)
        step = terms.step(speeds.decode_slowdown, beside + stage.prompts, speeds.context_slowdown / 1000.0, own_context)
        return CostParts(
            load_s=load,
            transfer_s=max(0.0, moved - load),
            prefill_s=tokens / speeds.prefill_tps,
            decode_s=self.costs.output_tokens(stage.model, stage.expected_output_tokens) / speeds.decode_tps * step,
        )


def _add(spare: dict[str, float], devices: Iterable[str], weights_bytes: float) -> None:
    for device in spare.keys() & set(devices):
        spare[device] += weights_bytes
