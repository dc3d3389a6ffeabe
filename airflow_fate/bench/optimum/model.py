"""Which schedules are there? A CP-SAT model with full knowledge: who runs where, in which order, with which model.

Each device makes a round trip: from nothing over its visits, in order, back to nothing. A visit is a stage, or a load
that only brings a model's weights into the memory of the node. What happens in the simulator is a solution, so the
bound holds for every policy; left out, in favour of the schedule, are that prefixes leave a full cache and weights a
full node's memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ortools.sat.python import cp_model

from airflow_fate.bench.optimum.times import Times

Var = cp_model.IntVar
Linear = Any
"""A sum in the making; OR-tools' own type has cases that can't be added."""


@dataclass(frozen=True)
class Visit:
    """A stage, or a load for the node's memory alone, wherever it is.

    :param here: by device, whether it is there.
    :param opens: by device, whether its model must be loaded there for it.
    :param from_host: whether that is from the node's memory.
    :param begin: of its prefill.
    """

    model: str
    here: dict[int, Var]
    opens: dict[int, Var]
    from_host: dict[int, Var]
    load: Var
    loaded: Var
    begin: Var
    prefilled: Var
    decode: Var
    end: Var


@dataclass
class Draft:
    """The model in the making.

    :param visits: those of the stages come first, in their order.
    :param after: (device, visit, next visit) -> whether they follow one another there.
    :param finds: stage -> whether it finds its prefix in the cache.
    """

    times: Times
    floor: int
    horizon: int
    cp: cp_model.CpModel = field(default_factory=cp_model.CpModel)
    visits: list[Visit] = field(default_factory=list)
    after: dict[tuple[int, int, int], Var] = field(default_factory=dict)
    finds: dict[int, Var] = field(default_factory=dict)
    last: Var = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.cp.new_int_var(self.floor, self.horizon, "last")


def draft_of(times: Times, floor: int, horizon: int) -> Draft:
    """The model of an instance; its objective is the last end.

    :param floor: none can end sooner.
    :param horizon: none is looked for that ends later.
    """
    draft = Draft(times, floor, horizon)
    devices = range(len(times.devices))
    for index, task in enumerate(times.tasks):
        draft.visits.append(_visit(draft, task.model, devices, task.arrival, f"stage {index}"))
    for device in devices:
        for model in times.loads:
            draft.visits.append(_visit(draft, model, [device], times.begin, f"warm {device} {model}"))
    for device in devices:
        _add_round_trip(draft, device)
    _add_stages(draft)
    _add_inputs(draft)
    _add_prefixes(draft)
    _add_durations(draft)
    _add_sources(draft)
    draft.cp.minimize(draft.last)
    return draft


def _visit(draft: Draft, model: str, devices: range | list[int], arrival: int, name: str) -> Visit:
    cp, first = draft.cp, draft.times.begin

    def time_var(what: str, soonest: int) -> Var:
        return cp.new_int_var(soonest, draft.horizon, f"{what} {name}")

    return Visit(
        model,
        {device: cp.new_bool_var(f"{name} on {device}") for device in devices},
        {device: cp.new_bool_var(f"{name} opens on {device}") for device in devices},
        {device: cp.new_bool_var(f"{name} from host on {device}") for device in devices},
        time_var("load", first),
        time_var("loaded", first),
        *(time_var(what, arrival) for what in ("begin", "prefilled", "decode", "end")),
    )


def _add_round_trip(draft: Draft, device: int) -> None:
    """What follows what on the device: in the same stay of a model, or after it was changed."""
    cp, visits = draft.cp, draft.visits
    able = [index for index, visit in enumerate(visits) if device in visit.here]
    arcs: list[tuple[int, int, cp_model.LiteralT]] = [(0, 0, cp.new_bool_var(f"nothing on {device}"))]
    opened: dict[int, list[Var]] = {index: [] for index in able}
    for index in able:
        visit = visits[index]
        arcs.append((index + 1, index + 1, visit.here[device].negated()))
        is_first = cp.new_bool_var(f"{index} is first on {device}")
        opened[index].append(is_first)
        arcs += [(0, index + 1, is_first), (index + 1, 0, cp.new_bool_var(f"{index} is last on {device}"))]
        for other in able:
            if other == index:
                continue
            follows = cp.new_bool_var(f"{other} after {index} on {device}")
            arcs.append((index + 1, other + 1, follows))
            draft.after[device, index, other] = follows
            later = visits[other]
            if later.model == visit.model:
                cp.add(later.begin >= visit.prefilled).only_enforce_if(follows)
                cp.add(later.decode >= visit.end).only_enforce_if(follows)
            else:
                opened[other].append(follows)
                cp.add(later.load >= visit.end).only_enforce_if(follows)
    cp.add_circuit(arcs)
    for index in able:
        cp.add(visits[index].opens[device] == sum(opened[index]))


def _add_stages(draft: Draft) -> None:
    for index, visit in enumerate(draft.visits):
        cp, (disk, host) = draft.cp, draft.times.loads[visit.model]
        takes = sum(disk * flag - (disk - host) * visit.from_host[device] for device, flag in visit.opens.items())
        cp.add(visit.loaded == visit.load + takes)
        cp.add(visit.decode >= visit.prefilled)
        for device, flag in visit.opens.items():
            cp.add(visit.begin >= visit.loaded).only_enforce_if(flag)
            cp.add_implication(visit.from_host[device], flag)
        if index < len(draft.times.tasks):
            cp.add_exactly_one(visit.here.values())
            # Somebody must have been the first to load it.
            cp.add(visit.begin >= draft.times.begin + disk)
            cp.add(draft.last >= visit.end)
        else:
            cp.add(visit.prefilled == visit.begin)
            cp.add(visit.decode == visit.begin)
            cp.add(visit.end == visit.begin)
            # A load for the node's memory alone has its visit to itself.
            for device, here in visit.here.items():
                cp.add(visit.opens[device] == here)


def _add_inputs(draft: Draft) -> None:
    """A stage begins once the outputs of its parents have come to its node, one after another."""
    cp, nodes = draft.cp, draft.times.nodes
    on = [
        {n: sum(var for device, var in visit.here.items() if nodes[device] == n) for n in set(nodes)}
        for visit in draft.visits
    ]
    for index, task in enumerate(draft.times.tasks):
        moving: Linear = 0
        for parent, move in task.moves.items():
            apart = cp.new_bool_var(f"{parent} apart from {index}")
            for node in set(nodes):
                cp.add(apart >= on[parent][node] - on[index][node])
            moving += move * apart
        for parent in task.moves:
            cp.add(draft.visits[index].begin >= draft.visits[parent].end + moving)


def _add_prefixes(draft: Draft) -> None:
    """A prefix lies in the cache from the first prefill with it until the model leaves."""
    cp, tasks = draft.cp, draft.times.tasks
    for prefix in sorted({task.prefix for task in tasks if task.prefix}):
        users = [index for index, task in enumerate(tasks) if task.prefix == prefix]
        alike = [index for index, visit in enumerate(draft.visits) if visit.model == tasks[users[0]].model]
        lies = {index: cp.new_bool_var(f"{prefix} before {index}") for index in alike}
        for index in alike:
            for flag in draft.visits[index].opens.values():
                cp.add_implication(flag, lies[index].negated())
        for (_, index, other), follows in draft.after.items():
            if index in lies and other in lies and index not in users:
                cp.add_implication(lies[other], lies[index]).only_enforce_if(follows)
        draft.finds |= {index: lies[index] for index in users}


def _add_durations(draft: Draft) -> None:
    """How long prefill and decode take, and what that makes of each device's time."""
    cp, times = draft.cp, draft.times
    busy: list[Linear] = [0] * len(times.devices)
    for index, visit in enumerate(draft.visits):
        disk, host = times.loads[visit.model]
        for device, flag in visit.opens.items():
            busy[device] += disk * flag - (disk - host) * visit.from_host[device]
        if index >= len(times.tasks):
            continue
        task = times.tasks[index]
        prefill: Linear = 0
        decode: Linear = 0
        for device, here in visit.here.items():
            spared: Linear = 0
            if index in draft.finds:
                finds = cp.new_bool_var(f"{index} finds on {device}")
                cp.add_implication(finds, here)
                cp.add_implication(finds, draft.finds[index])
                spared = task.spared[device] * finds
            prefill += task.prefill[device] * here - spared
            decode += task.decode[device] * here
            # Where a model comes, the sequence slot is empty until its first prefill has ended.
            busy[device] += task.decode[device] * here + task.prefill[device] * visit.opens[device]
        cp.add(visit.prefilled == visit.begin + prefill)
        cp.add(visit.end == visit.decode + decode)
    for ticks in busy:
        cp.add(draft.last >= times.begin + ticks)


def _add_sources(draft: Draft) -> None:
    """Weights come from a node's memory only after a load from disk has ended there."""
    cp, nodes = draft.cp, draft.times.nodes
    for node in set(nodes):
        for model in draft.times.loads:
            filled = cp.new_int_var(0, draft.horizon, f"{model} in memory of {node}")
            loads = [
                (visit, flag, visit.from_host[device])
                for visit in draft.visits
                for device, flag in visit.opens.items()
                if visit.model == model and nodes[device] == node
            ]
            fills = []
            for visit, flag, from_host in loads:
                fill = cp.new_bool_var(f"{flag.name} fills {node}")
                cp.add_implication(fill, flag)
                cp.add_implication(fill, from_host.negated())
                cp.add(filled >= visit.loaded).only_enforce_if(fill)
                cp.add(visit.load >= filled).only_enforce_if(from_host)
                fills.append(fill)
            for _, _, from_host in loads:
                cp.add_bool_or(from_host.negated(), *fills)
            for visit in draft.visits:
                for device, here in visit.here.items():
                    if visit.model == model and nodes[device] == node:
                        # Follows from the round trips, but not for their linear relaxation.
                        cp.add(sum(fills) >= here)
                        cp.add(
                            sum(v.opens[device] for v in draft.visits if v.model == model and device in v.opens) >= here
                        )
