"""What is the shortest schedule that still fails? Steps and faults are left out for as long as it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.faults.simulation.schedule import Fault, Schedule, Step


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """A schedule of which no step can be left out, and none made simpler, without its passing.

    :param fails: whether a schedule still fails in the same way; it does for the given one.
    """
    while True:
        smaller = _simpler(_shorter(_fewer_tasks(schedule, fails), fails), fails)
        if smaller == schedule:
            return schedule
        schedule = smaller


def _fewer_tasks(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    counts = (replace(schedule, tasks=tasks) for tasks in range(1, schedule.tasks))
    return next(filter(fails, counts), schedule)


def _shorter(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Without as many steps as possible; larger parts are tried first."""
    size = len(schedule.steps) // 2
    while size:
        start = 0
        while start < len(schedule.steps):
            without = replace(schedule, steps=schedule.steps[:start] + schedule.steps[start + size :])
            if fails(without):
                schedule = without
            else:
                start += size
        size //= 2
    return schedule


def _simpler(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """The same steps, each without its fault, its wait and its choice where these don't matter."""
    for at in range(len(schedule.steps)):
        for way in (_without_fault, _without_wait, _first_pick):
            step = schedule.steps[at]
            if (other := way(step)) != step:
                changed = replace(schedule, steps=(*schedule.steps[:at], other, *schedule.steps[at + 1 :]))
                if fails(changed):
                    schedule = changed
    return schedule


def _without_fault(step: Step) -> Step:
    return step._replace(fault=Fault.NONE)


def _without_wait(step: Step) -> Step:
    return step._replace(after_s=0.0)


def _first_pick(step: Step) -> Step:
    return step._replace(pick=0)
