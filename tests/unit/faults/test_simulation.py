"""The simulation: it says the same twice, fails where it must, and shrinks. `make test-faults` plays thousands."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.faults.simulation.campaign import broken, played
from tests.faults.simulation.checker import violations
from tests.faults.simulation.history import Asked, Booked, Event, Finished, Forgot, Given, Queued, Served, Told
from tests.faults.simulation.schedule import Actor, Fault, Schedule, Step, drawn
from tests.faults.simulation.shrink import shrunk

USED = {"d": (1, 1)}
R1 = Booked(USED, {"r1": ("t1", {"d": 1})})
R2 = Booked(USED, {"r2": ("t2", {"d": 1})})
NOTHING = Booked({"d": (0, 1)}, {})
WELL = (R1, Queued("t1", "a"), Given("t1", "a"), Asked("d", "r1"), Served("d", "r1", "t1"), NOTHING, Finished())


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_no_schedule_breaks_a_promise(first: int) -> None:
    assert {seed: found for seed in range(first, first + 25) if (found := broken(seed))} == {}


def test_a_seed_tells_the_same_story_twice() -> None:
    assert str(played(drawn(17, 150))[0]) == str(played(drawn(17, 150))[0])


def test_without_any_fault_all_tasks_succeed_at_their_first_try() -> None:
    story = str(played(Schedule(5, True, ()))[0])
    assert story.count("is success") == 5
    assert "failed" not in story


@pytest.mark.parametrize(
    ("promise", "events"),
    [
        ("capacity", (Booked({"d": (2, 1)}, {"r1": ("t1", {"d": 1}), "r2": ("t2", {"d": 1})}),)),
        ("capacity", (Booked({"d": (1, 1)}, {}),)),
        ("twice", (Booked({"d": (2, 2)}, {"r1": ("t1", {"d": 1}), "r2": ("t1", {"d": 1})}),)),
        ("twice", (Queued("t1", "a"), Given("t1", "a"), Given("t1", "b"))),
        ("stranger", (R1, NOTHING, Told("d", "r1"), Served("d", "r1", "t1"))),
        ("stranger", (R1, NOTHING, R2, Asked("d", "r2"), Served("d", "r1", "t1"))),
        ("stranger", (R1, Served("d", "r1", "t1", is_valid=False))),
        ("stranger", (Served("d", "r9", "t1"),)),
        ("lost", (Finished({"one": "queued"}),)),
        ("leaked", (R1, Finished())),
    ],
)
def test_the_checker_sees_a_broken_promise(promise: str, events: tuple[Event, ...]) -> None:
    assert violations(WELL) == []
    found = violations(events)
    assert found
    assert {each.partition(":")[0] for each in found} == {promise}


def test_what_a_gateway_cannot_know_is_held_against_nobody() -> None:
    assert violations((R1, NOTHING, Served("d", "r1", "t1"))) == []
    assert violations((R1, NOTHING, Told("d", "r1"), Forgot("d"), Served("d", "r1", "t1"))) == []


def test_what_does_not_matter_is_shrunk_away() -> None:
    culprit = Step(Actor.SCHEDULER_A, 3, Fault.LOST, 1.0)
    schedule = drawn(5, 60)
    schedule = replace(schedule, steps=(*schedule.steps[:30], culprit, *schedule.steps[30:]))

    def fails(schedule: Schedule) -> bool:
        return any(step.actor is Actor.SCHEDULER_A and step.fault is Fault.LOST for step in schedule.steps)

    assert shrunk(schedule, fails) == Schedule(1, schedule.adopts, (Step(Actor.SCHEDULER_A, 0, Fault.LOST),))
