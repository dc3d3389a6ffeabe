"""The frontier's state machine: what it says for each event, and what holds after any sequence of them."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from airflow_fate.executor.frontier import (
    Adopted,
    Claim,
    Claimed,
    ClaimLost,
    Dispatch,
    Elsewhere,
    Ended,
    Fail,
    Frontier,
    GiveBack,
    HandoverFailed,
    Instruction,
    NotPlanned,
    PassOn,
    Phase,
    Planned,
    Queued,
    Rejected,
    Release,
    Revoked,
    Say,
    Tick,
)
from airflow_fate.executor.frontier.frontier import FORGET_S
from airflow_fate.executor.frontier.story import Line, Stories
from airflow_fate.physics.costs import CostParts
from airflow_fate.planner.plan import Assignment, Hold, Impossible, Plan, Share
from airflow_fate.workflow import StageRef

A, B = StageRef("dag/run", "a"), StageRef("dag/run", "b")


def assignment(ref: StageRef) -> Assignment:
    return Assignment(ref, "m", (Share("gpu-0", 1, CostParts()),), 0.0, 1.0)


def frontier_with(*refs: StageRef) -> Frontier:
    frontier = Frontier(hold_limit_s=100.0, say_after_s=5.0)
    for ref in refs:
        assert frontier.handle(Queued(f"try-{ref.stage}", ref.stage, ref, 10.0)) == []
    return frontier


def bound(frontier: Frontier, ref: StageRef, reservation: str = "r1") -> list[Instruction]:
    frontier.handle(Planned(Plan((assignment(ref),)), 11.0))
    return frontier.handle(Claimed(f"try-{ref.stage}", reservation))


def test_an_assigned_task_is_claimed_then_dispatched() -> None:
    frontier = frontier_with(A)
    (claim,) = frontier.handle(Planned(Plan((assignment(A),)), 12.0))
    assert isinstance(claim, Claim)
    assert claim.assignment == assignment(A)
    (dispatch,) = frontier.handle(Claimed("try-a", "r1"))
    assert isinstance(dispatch, Dispatch)
    assert dispatch.entry.reservation == "r1"
    assert frontier.held() == ()


def test_a_lost_claim_leaves_the_task_held_for_the_next_plan() -> None:
    frontier = frontier_with(A)
    frontier.handle(Planned(Plan((assignment(A),)), 12.0))
    assert frontier.handle(ClaimLost("try-a")) == []
    assert [entry.ti_id for entry in frontier.held()] == ["try-a"]


def test_a_failed_handover_releases_the_claim_and_holds_the_task() -> None:
    frontier = frontier_with(A)
    bound(frontier, A)
    (release,) = frontier.handle(HandoverFailed("try-a"))
    assert isinstance(release, Release)
    assert release.reservation == "r1"
    assert [entry.ref for entry in frontier.held()] == [A]


def test_the_end_of_a_try_releases_its_reservation_once() -> None:
    frontier = frontier_with(A)
    bound(frontier, A)
    (release,) = frontier.handle(Ended(("try-a", "unknown")))
    assert isinstance(release, Release)
    assert frontier.handle(Ended(("try-a",))) == []


def test_a_task_taken_back_while_it_is_claimed_gives_its_devices_back() -> None:
    frontier = frontier_with(A)
    frontier.handle(Planned(Plan((assignment(A),)), 12.0))
    assert frontier.handle(Revoked("try-a")) == []
    (release,) = frontier.handle(Claimed("try-a", "r1"))
    assert isinstance(release, Release)
    assert release.reservation == "r1"


def test_a_deferred_try_that_returns_releases_its_first_half() -> None:
    frontier = frontier_with(A)
    bound(frontier, A)
    (release,) = frontier.handle(Queued("try-a", "a", A, 20.0))
    assert isinstance(release, Release)
    assert release.outcome == "deferred"
    assert [entry.ref for entry in frontier.held()] == [A]


def test_what_can_never_be_served_fails_with_the_reason() -> None:
    frontier = frontier_with(A)
    (fail,) = frontier.handle(Planned(Plan(impossible=(Impossible(A, "no such model"),)), 12.0))
    assert isinstance(fail, Fail)
    assert fail.reason == "no such model"
    assert len(frontier) == 0


def test_a_waiting_task_is_told_why_once_and_not_at_once() -> None:
    frontier = frontier_with(A)
    hold = Planned(Plan(holds=(Hold(A, "gpu-0", 30.0, "waits for gpu-0"),)), 12.0)
    assert frontier.handle(hold) == []
    later = Planned(hold.plan, 16.0)
    (say,) = frontier.handle(later)
    assert isinstance(say, Say)
    assert say.text == "waits for gpu-0"
    assert frontier.handle(later) == []


def test_a_task_held_too_long_goes_back_and_keeps_its_age() -> None:
    frontier = frontier_with(A)
    assert frontier.handle(Tick(109.0)) == []
    (back,) = frontier.handle(Tick(110.0))
    assert isinstance(back, GiveBack)
    frontier.handle(Queued("try-a", "a", A, 111.0))
    (entry,) = frontier.held()
    assert (entry.ready_s, entry.queued_s) == (10.0, 111.0)


def test_an_adopted_task_is_released_when_it_ends() -> None:
    frontier = Frontier(100.0)
    frontier.handle(Adopted("try-b", "b", B, "r9", 1.0))
    (release,) = frontier.handle(Ended(("try-b",)))
    assert isinstance(release, Release)
    assert release.reservation == "r9"


@pytest.mark.parametrize("event", [ClaimLost("x"), HandoverFailed("x"), Revoked("x"), Ended(("x",))])
def test_events_about_unknown_tries_change_nothing(event: ClaimLost | HandoverFailed | Revoked | Ended) -> None:
    frontier = frontier_with(A)
    assert frontier.handle(event) == []
    assert len(frontier) == 1


class AnyOrder(RuleBasedStateMachine):
    """Any order of events, with a ledger that counts: nothing granted is ever kept by nobody."""

    tries = Bundle("tries")

    @initialize()
    def begin(self) -> None:
        self.frontier = Frontier(hold_limit_s=50.0, say_after_s=0.0)
        self.granted: set[str] = set()
        self.asked: set[str] = set()
        self.dispatched: list[str] = []
        self.now = 0.0
        self.count = 0

    def do(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Claim(entry):
                    self.asked.add(entry.ti_id)
                case Release(reservation):
                    assert reservation in self.granted, "released what was not granted, or twice"
                    self.granted.remove(reservation)
                case Dispatch(entry):
                    assert entry.reservation in self.granted
                    self.dispatched.append(entry.reservation)

    @rule(target=tries, number=st.integers(0, 5))
    def queued(self, number: int) -> str:
        self.now += 1
        ti_id = f"try-{number}"
        self.do(self.frontier.handle(Queued(ti_id, number, StageRef("w", str(number)), self.now)))
        return ti_id

    @rule(chosen=st.sets(st.integers(0, 5)), doomed=st.sets(st.integers(0, 5)))
    def planned(self, chosen: set[int], doomed: set[int]) -> None:
        plan = Plan(
            tuple(assignment(StageRef("w", str(n))) for n in sorted(chosen)),
            tuple(Hold(StageRef("w", str(n)), "", 0.0, "later") for n in range(6)),
            tuple(Impossible(StageRef("w", str(n)), "never") for n in sorted(doomed - chosen)),
        )
        self.do(self.frontier.handle(Planned(plan, self.now)))

    @rule(rejected=st.sets(st.integers(0, 5)), unplanned=st.sets(st.integers(0, 5)))
    def not_planned(self, rejected: set[int], unplanned: set[int]) -> None:
        self.do(self.frontier.handle(Rejected({f"try-{n}": "never" for n in sorted(rejected)})))
        self.do(self.frontier.handle(NotPlanned({f"try-{n}": "later" for n in sorted(unplanned)}, self.now)))

    @rule(granted=st.booleans())
    def ledger_answers(self, granted: bool) -> None:
        for ti_id in sorted(self.asked):
            self.count += 1
            if granted:
                self.granted.add(f"r{self.count}")
                self.do(self.frontier.handle(Claimed(ti_id, f"r{self.count}")))
            else:
                self.do(self.frontier.handle(ClaimLost(ti_id)))
        self.asked.clear()

    @rule(ti_id=consumes(tries))
    def ended(self, ti_id: str) -> None:
        self.do(self.frontier.handle(Ended((ti_id,))))

    @rule(ti_id=tries)
    def revoked(self, ti_id: str) -> None:
        self.do(self.frontier.handle(Revoked(ti_id)))

    @rule(ti_id=tries)
    def handover_failed(self, ti_id: str) -> None:
        self.do(self.frontier.handle(HandoverFailed(ti_id)))

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.frontier.handle(Tick(self.now)))

    @invariant()
    def reservations_are_those_of_running_tasks(self) -> None:
        assert self.frontier.is_consistent()
        assert {entry.reservation for entry in self.frontier.running()} == self.granted

    @invariant()
    def nothing_is_dispatched_twice_on_one_reservation(self) -> None:
        assert len(self.dispatched) == len(set(self.dispatched))

    @invariant()
    def held_tasks_hold_nothing(self) -> None:
        assert all(entry.phase is Phase.HELD and not entry.reservation for entry in self.frontier.held())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_was_given_back_and_never_came_again_is_forgotten() -> None:
    frontier = Frontier(hold_limit_s=10.0)
    for ref in (A, B):
        frontier.handle(Queued(f"try-{ref.stage}", ref.stage, ref, 0.0))
    assert len(frontier.handle(Tick(10.0))) == 2
    frontier.handle(Queued("again-a", "a", A, 20.0))
    frontier.handle(Tick(10.0 + FORGET_S))
    frontier.handle(Queued("again-a", "a", A, 20.0 + FORGET_S))
    frontier.handle(Queued("again-b", "b", B, 20.0 + FORGET_S))
    # The one that came again in time has kept its age; the other one is as new.
    assert {entry.ref: entry.ready_s for entry in frontier.held()} == {A: 0.0, B: 20.0 + FORGET_S}


def test_a_task_that_turns_out_to_run_elsewhere_is_passed_on() -> None:
    frontier = Frontier(hold_limit_s=10.0)
    frontier.handle(Queued("t", "k", StageRef("w", "a"), 0.0))
    (passed,) = frontier.handle(Elsewhere(("t", "unknown")))
    assert isinstance(passed, PassOn)
    assert len(frontier) == 0


def test_a_try_that_can_only_fail_does_so_with_its_reason() -> None:
    frontier = frontier_with(A, B)
    (fail,) = frontier.handle(Rejected({"try-a": "its spec can't be read", "unknown": "whatever"}))
    assert isinstance(fail, Fail)
    assert (fail.entry.ref, fail.reason) == (A, "its spec can't be read")
    assert [entry.ref for entry in frontier.held()] == [B]


def test_a_task_that_no_plan_was_asked_for_is_told_why_as_one_that_was_held() -> None:
    frontier = frontier_with(A)
    assert frontier.handle(NotPlanned({"try-a": "the planner is loaded"}, 12.0)) == []
    (say,) = frontier.handle(NotPlanned({"try-a": "there is no fleet", "unknown": "whatever"}, 16.0))
    assert isinstance(say, Say)
    assert say.text == "there is no fleet"
    (entry,) = frontier.held()
    assert entry.held_because == "there is no fleet"


# Stories


def test_a_story_tells_what_happened_to_a_try_also_after_it_has_gone() -> None:
    frontier = frontier_with(A)
    frontier.handle(NotPlanned({"try-a": "there is no fleet"}, 11.0))
    frontier.handle(NotPlanned({"try-a": "its fleet is away"}, 12.0))
    frontier.handle(Planned(Plan((assignment(A),)), 13.0))
    frontier.handle(ClaimLost("try-a"))
    bound(frontier, A)
    frontier.handle(Tick(20.0))
    frontier.handle(Ended(("try-a",)))
    assert [(line.what, line.detail) for line in frontier.story("try-a")] == [
        ("queued", ""),
        ("held", "its fleet is away"),
        ("assigned", "gpu-0"),
        ("claim lost", ""),
        ("assigned", "gpu-0"),
        ("claimed", "r1"),
        ("ended", ""),
    ]
    assert [line.at_s for line in frontier.story("try-a")] == [10.0, 11.0, 13.0, 13.0, 11.0, 11.0, 20.0]


def test_of_a_try_that_was_never_here_there_is_no_story() -> None:
    assert frontier_with(A).story("unknown") == ()


def test_a_story_keeps_its_last_lines() -> None:
    stories = Stories(kept_lines=3)
    for number in range(5):
        stories.add("try", Line(number, f"{number}"))
    assert [line.what for line in stories.of("try")] == ["2", "3", "4"]


def test_of_those_that_have_gone_the_last_stories_are_kept_and_of_those_here_all() -> None:
    stories = Stories(kept_gone=1)
    for name in ("here", "back", "first", "last"):
        stories.add(name, Line(1.0, "queued"))
    stories.end("back", Line(2.0, "given back"))
    stories.add("back", Line(3.0, "queued"))
    for name in ("first", "last"):
        stories.end(name, Line(4.0, "ended"))
    kept = {name: [line.what for line in stories.of(name)] for name in ("here", "back", "first", "last")}
    assert kept == {
        "here": ["queued"],
        "back": ["queued", "given back", "queued"],
        "first": [],
        "last": ["queued", "ended"],
    }
