"""How good could anybody be, knowing all? The optimum of a small instance, as a schedule that exists.

The solver begins with the best policy's schedule. What it finds is played on the simulator's physics; its bound holds
for every policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ortools.sat.python import cp_model

from airflow_fate.bench.optimum.model import Draft, draft_of
from airflow_fate.bench.optimum.replay import Schedule, replay, schedule_of
from airflow_fate.bench.optimum.times import TICKS_PER_S, ticks, times_of
from airflow_fate.cluster import Fleet
from airflow_fate.simulator.bound import lower_bounds
from airflow_fate.simulator.simulate import simulate
from airflow_fate.simulator.workload import Workload

_STARTS = ("round_robin", "eft", "heft+", "next_use+", "critical_path")
WORKERS = 2
"""One looks for schedules, one for reasons why there is none."""
_ROUNDING_S = 0.02
"""Some twenty stages in a row, each rounded down by less than a millisecond."""


@dataclass(frozen=True)
class Optimum:
    """What is known of an instance's optimum.

    :param makespan_s: the best that was reached in the simulator.
    :param bound_s: nothing in the simulator can be below it.
    :param status: ``OPTIMAL`` where the two meet.
    """

    makespan_s: float
    bound_s: float
    status: Literal["OPTIMAL", "FEASIBLE"]
    schedule: Schedule


def find_optimum(workload: Workload, fleet: Fleet, limit_s: float = 60.0) -> Optimum:
    """The schedule with the shortest makespan, as nearly as the time allows.

    :raises NotSmallError: when the instance is none of the kind that this is made for.
    """
    times = times_of(workload, fleet)
    schedules = [schedule_of(simulate(workload, fleet, policy).events) for policy in _STARTS]
    best_s, best = min(
        ((_makespan_s(workload, fleet, schedule), schedule) for schedule in schedules), key=lambda timed: timed[0]
    )
    floor = ticks(lower_bounds(workload, fleet).makespan_s)
    draft = draft_of(times, floor, ticks(best_s) + 1)
    _hint(draft, best)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = WORKERS
    status = solver.solve(draft.cp)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        schedule = _read(draft, solver)
        makespan_s = _makespan_s(workload, fleet, schedule)
        if makespan_s < best_s:
            best_s, best = makespan_s, schedule
    elif status != cp_model.UNKNOWN:
        raise RuntimeError(f"the offline model has no room for a schedule that exists: {solver.status_name(status)}")
    bound_s = max(floor, solver.best_objective_bound) / TICKS_PER_S
    return Optimum(best_s, bound_s, "OPTIMAL" if best_s <= bound_s + _ROUNDING_S else "FEASIBLE", best)


def _makespan_s(workload: Workload, fleet: Fleet, schedule: Schedule) -> float:
    return max(float(event["t"]) for event in replay(workload, fleet, schedule) if event["event"] == "finish")


def _hint(draft: Draft, schedule: Schedule) -> None:
    """Tell the solver who is where, after whom."""
    tasks, devices = draft.times.tasks, draft.times.devices
    at = {task.ref: index for index, task in enumerate(tasks)}
    visits = {devices.index(device): [at[ref] for ref in order if ref in at] for device, order in schedule.items()}
    pairs = {(device, *pair) for device, order in visits.items() for pair in pairwise(order)}
    for index, visit in enumerate(draft.visits):
        for device, here in visit.here.items():
            draft.cp.add_hint(here, index in visits.get(device, []))
    for key, follows in draft.after.items():
        draft.cp.add_hint(follows, key in pairs)


def _read(draft: Draft, solver: cp_model.CpSolver) -> Schedule:
    """The solver's schedule: each device's visits, in order."""
    times = draft.times
    schedule: Schedule = {}
    for device, name in enumerate(times.devices):
        here = [
            index
            for index, visit in enumerate(draft.visits)
            if device in visit.here and solver.value(visit.here[device])
        ]
        following = {i: j for (d, i, j), follows in draft.after.items() if d == device and solver.value(follows)}
        at = next((index for index in here if index not in following.values()), None)
        schedule[name] = []
        while at is not None:
            schedule[name].append(times.tasks[at].ref if at < len(times.tasks) else draft.visits[at].model)
            at = following.get(at)
    return schedule
