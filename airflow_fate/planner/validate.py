"""Can this plan be carried out? Everything that is wrong with it, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from airflow_fate.cluster import ClusterState
from airflow_fate.planner.plan import Plan, Problem, ReadyStage
from airflow_fate.workflow import Workflow


def violations(plan: Plan, problem: Problem) -> list[str]:
    """Why the plan must not be carried out; empty when it may be."""
    wrong = [*_stages(plan, problem.frontier), *_shares(plan, problem.workflows, problem.state)]
    return wrong or [*_sequences(plan, problem.state), *_memory(plan, problem.state)]


def _stages(plan: Plan, frontier: Sequence[ReadyStage]) -> Iterator[str]:
    """Every ready stage has exactly one answer."""
    given = [[answer.ref for answer in kind] for kind in (plan.assignments, plan.holds, plan.impossible)]
    answers = Counter(ref for refs in given for ref in refs)
    asked = {ready.ref for ready in frontier}
    for ref in sorted(asked - answers.keys()):
        yield f"{ref} has no answer"
    for ref in sorted(answers.keys() - asked):
        yield f"{ref} was not asked about"
    for ref, count in sorted(answers.items()):
        if count > 1:
            yield f"{ref} has {count} answers"


def _shares(plan: Plan, workflows: Mapping[str, Workflow], state: ClusterState) -> Iterator[str]:
    """Shares lie on known, usable, different places that can hold the model, and add up to the batch."""
    known = set(state.fleet.places)
    for assignment in plan.assignments:
        stage = workflows[assignment.ref.workflow].stages[assignment.ref.stage]
        places = [share.place for share in assignment.shares]
        if len(set(places)) != len(places) or not 1 <= len(places) <= stage.max_shards:
            yield f"{assignment.ref} has shares on {places}; it may have {stage.max_shards} on different places"
        if sum(share.prompts for share in assignment.shares) != stage.prompts:
            yield f"{assignment.ref} places other than its {stage.prompts} prompts"
        for place in places:
            if place not in known:
                yield f"{assignment.ref} is on unknown place {place!r}"
            elif not state.place(place).usable:
                yield f"{assignment.ref} is on {place}, which is not usable"
            elif not state.fleet.can_hold(place, assignment.model):
                yield f"{assignment.ref} is on {place}, which cannot hold {assignment.model}"


def _sequences(plan: Plan, state: ClusterState) -> Iterator[str]:
    """No place has more sequences than it takes, except one batch alone; a group shares its devices with nobody."""
    sequences = {place: sum(r.sequences for r in state.place(place).running) for place in state.fleet.places}
    for assignment in plan.assignments:
        for share in assignment.shares:
            slots = state.fleet.members(share.place)[0].max_seqs
            if sequences[share.place] and sequences[share.place] + share.prompts > slots:
                yield f"{share.place} would serve {sequences[share.place] + share.prompts} of its {slots} sequences"
            sequences[share.place] += share.prompts
    for place in {share.place for assignment in plan.assignments for share in assignment.shares}:
        for other in state.fleet.overlapping(place):
            if sequences[other]:
                yield f"{place} and {other} are both taken and share a device"


def _memory(plan: Plan, state: ClusterState) -> Iterator[str]:
    """Evictions take only what is there and unused, and the models of a device fit into its memory."""
    resident = {place: set(state.place(place).resident) for place in state.fleet.places}
    used = {place: {r.model for r in state.place(place).running} for place in state.fleet.places}
    for assignment in plan.assignments:
        for place, model in assignment.evict:
            if model not in resident.get(place, ()):
                yield f"{assignment.ref} evicts {model} from {place}, where it is not"
            elif model in used[place]:
                yield f"{assignment.ref} evicts {model} from {place}, where it is in use"
            else:
                resident[place].remove(model)
        for share in assignment.shares:
            resident[share.place].add(assignment.model)
            used[share.place].add(assignment.model)
    changed = {share.place for assignment in plan.assignments for share in assignment.shares}
    held: dict[str, float] = {}
    for place, models in resident.items():
        for device in state.fleet.members(place):
            known = [state.fleet.models[model].member_bytes for model in models if model in state.fleet.models]
            held[device.id] = held.get(device.id, 0.0) + sum(known)
    for device_id in sorted({device.id for place in changed for device in state.fleet.members(place)}):
        memory = state.fleet.devices[device_id].memory_bytes
        if held[device_id] > memory * (1 + 1e-9):
            yield f"{device_id} would hold {held[device_id] / 1e9:,.1f} GB of models in {memory / 1e9:,.1f} GB"
