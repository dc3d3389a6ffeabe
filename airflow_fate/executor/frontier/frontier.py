"""How does the frontier change? One event after the other, each with what is to be done about it. Pure.

A task is *held* until a plan assigns it, *claiming* while the ledger is asked for its devices, *running* from its
dispatch until its try has ended. All I/O stands outside: the heartbeat feeds events and carries out instructions
(the manner of dask.distributed's worker state machine).

    Queued -> HELD -- Planned --> CLAIMING -- Claimed --> RUNNING -- Ended --> (gone)
                ^                    |
                +---- ClaimLost -----+          Revoked, Rejected, Elsewhere, give back: (gone)
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from airflow_fate.executor.frontier.entry import Entry, Phase
from airflow_fate.executor.frontier.events import (
    Adopted,
    Claimed,
    ClaimLost,
    Elsewhere,
    Ended,
    Event,
    HandoverFailed,
    NotPlanned,
    Planned,
    Queued,
    Rejected,
    Revoked,
    Tick,
)
from airflow_fate.executor.frontier.instructions import (
    Claim,
    Dispatch,
    Fail,
    GiveBack,
    Instruction,
    PassOn,
    Release,
    Say,
)
from airflow_fate.executor.frontier.story import Line, Stories
from airflow_fate.planner.plan import Assignment
from airflow_fate.workflow import StageRef

FORGET_S = 24 * 3600.0
"""A task that was given back and didn't come again for so long has lost its turn."""


class Frontier:
    """The tasks that FATE answers for.

    :param hold_limit_s: a held task is given back when it has been QUEUED for so long.
    :param say_after_s: a task that is held for longer is told why, once.
    """

    def __init__(self, hold_limit_s: float, say_after_s: float = 5.0) -> None:
        self._hold_limit_s = hold_limit_s
        self._say_after_s = say_after_s
        self._entries: dict[str, Entry] = {}
        self._ready_s: dict[StageRef, float] = {}
        self._given_back_s: dict[StageRef, float] = {}
        """When those were given back whose age is kept until they come again."""
        self._stories = Stories()
        self._now = 0.0
        """The latest time that an event has told: not every event has one of its own."""

    def held(self) -> tuple[Entry, ...]:
        """Tasks that wait for a plan, in the order in which they came."""
        return self._in(Phase.HELD)

    def running(self) -> tuple[Entry, ...]:
        """Tasks that hold a reservation."""
        return self._in(Phase.RUNNING)

    def story(self, ti_id: str) -> tuple[Line, ...]:
        """What happened to a try of late, whether it is here or gone."""
        return self._stories.of(ti_id)

    def __len__(self) -> int:
        return len(self._entries)

    def handle(self, event: Event) -> list[Instruction]:
        """Change state by one event and say what is to be done, in this order."""
        match event:
            case Queued():
                return self._queued(event)
            case Planned():
                return self._planned(event)
            case NotPlanned():
                return self._not_planned(event)
            case Rejected():
                return self._rejected(event)
            case Elsewhere():
                return self._passed_on(event)
            case Claimed():
                return self._claimed(event)
            case ClaimLost():
                return self._claim_lost(event)
            case HandoverFailed():
                return self._handover_failed(event)
            case Ended(ti_ids):
                return [release for ti_id in ti_ids for release in self._gone(ti_id, "ended")]
            case Revoked(ti_id):
                return self._gone(ti_id, "revoked")
            case Adopted():
                return self._adopted(event)
            case Tick():
                return self._tick(event)
            case _:
                assert_never(event)

    def _in(self, phase: Phase) -> tuple[Entry, ...]:
        return tuple(entry for entry in self._entries.values() if entry.phase is phase)

    # Tasks come

    def _queued(self, event: Queued) -> list[Instruction]:
        self._now = event.now
        known = self._entries.get(event.ti_id)
        if known is not None and known.phase is Phase.HELD:
            return []
        self._given_back_s.pop(event.ref, None)
        ready_s = self._ready_s.setdefault(event.ref, event.now)
        self._put(Entry(event.ti_id, event.key, event.ref, ready_s, event.now), "queued")
        # The same try comes again after a deferral: its first half no longer holds anything.
        return [Release(known.reservation, "deferred")] if known is not None and known.reservation else []

    def _adopted(self, event: Adopted) -> list[Instruction]:
        self._now = event.now
        entry = Entry(event.ti_id, event.key, event.ref, event.now, event.now, Phase.RUNNING, event.reservation)
        self._put(entry, "adopted", event.reservation)
        return []

    # Held tasks are planned

    def _planned(self, event: Planned) -> list[Instruction]:
        self._now = event.now
        held = {entry.ref: entry for entry in self.held()}
        instructions: list[Instruction] = []
        for assignment in event.plan.assignments:
            if entry := held.pop(assignment.ref, None):
                self._put(replace(entry, phase=Phase.CLAIMING), "assigned", _places(assignment))
                instructions.append(Claim(entry, assignment, event.plan.solver))
        for impossible in event.plan.impossible:
            if entry := held.pop(impossible.ref, None):
                instructions += self._failed(entry, impossible.reason)
        for hold in event.plan.holds:
            if entry := held.get(hold.ref):
                instructions += self._kept(entry, hold.reason)
        return instructions

    def _not_planned(self, event: NotPlanned) -> list[Instruction]:
        self._now = event.now
        return [
            instruction
            for ti_id, reason in event.reasons.items()
            if (entry := self._get(ti_id, Phase.HELD))
            for instruction in self._kept(entry, reason)
        ]

    def _rejected(self, event: Rejected) -> list[Instruction]:
        return [
            instruction
            for ti_id, reason in event.reasons.items()
            if (entry := self._get(ti_id, Phase.HELD))
            for instruction in self._failed(entry, reason)
        ]

    def _passed_on(self, event: Elsewhere) -> list[Instruction]:
        entries = [entry for ti_id in event.ti_ids if (entry := self._get(ti_id, Phase.HELD))]
        for entry in entries:
            self._forget(entry, "runs elsewhere")
        return [PassOn(entry) for entry in entries]

    def _kept(self, entry: Entry, reason: str) -> list[Instruction]:
        """A task stays held, and is told why when that has been so for a while."""
        is_due = not entry.is_told and self._now - entry.queued_s >= self._say_after_s
        if is_due or reason != entry.held_because:
            entry = replace(entry, held_because=reason, is_told=entry.is_told or is_due)
        self._put(entry, "held", reason)
        return [Say(entry, reason)] if is_due else []

    def _failed(self, entry: Entry, reason: str) -> list[Instruction]:
        self._forget(entry, "fails", reason)
        return [Fail(entry, reason)]

    # Assigned tasks are claimed and handed over

    def _claimed(self, event: Claimed) -> list[Instruction]:
        entry = self._get(event.ti_id, Phase.CLAIMING)
        if entry is None:
            # It was taken back while the ledger was asked.
            return [Release(event.reservation, "revoked")]
        entry = replace(entry, phase=Phase.RUNNING, reservation=event.reservation)
        self._put(entry, "claimed", event.reservation)
        return [Dispatch(entry)]

    def _claim_lost(self, event: ClaimLost) -> list[Instruction]:
        if entry := self._get(event.ti_id, Phase.CLAIMING):
            self._put(replace(entry, phase=Phase.HELD), "claim lost")
        return []

    def _handover_failed(self, event: HandoverFailed) -> list[Instruction]:
        entry = self._get(event.ti_id, Phase.RUNNING)
        if entry is None:
            return []
        self._put(replace(entry, phase=Phase.HELD, reservation=""), "handover failed")
        return [Release(entry.reservation, "handover failed")]

    # Tasks go

    def _gone(self, ti_id: str, outcome: str) -> list[Instruction]:
        entry = self._entries.get(ti_id)
        if entry is None:
            return []
        self._forget(entry, outcome)
        return [Release(entry.reservation, outcome)] if entry.reservation else []

    def _tick(self, event: Tick) -> list[Instruction]:
        self._now = event.now
        too_long = [entry for entry in self.held() if event.now - entry.queued_s >= self._hold_limit_s]
        for entry in too_long:
            self._forget(entry, "given back to the scheduler")
            # Its age is kept, so that it does not lose its turn.
            self._ready_s[entry.ref], self._given_back_s[entry.ref] = entry.ready_s, event.now
        for ref in [ref for ref, at_s in self._given_back_s.items() if event.now - at_s >= FORGET_S]:
            # It never came again: its run was deleted, or marked as done.
            del self._given_back_s[ref]
            self._ready_s.pop(ref, None)
        return [GiveBack(entry) for entry in too_long]

    # Entries

    def _get(self, ti_id: str, phase: Phase) -> Entry | None:
        """The entry of a try, where it is in this phase."""
        entry = self._entries.get(ti_id)
        return entry if entry is not None and entry.phase is phase else None

    def _put(self, entry: Entry, what: str, detail: str = "") -> None:
        self._entries[entry.ti_id] = entry
        self._stories.add(entry.ti_id, Line(self._now, what, detail))

    def _forget(self, entry: Entry, what: str, detail: str = "") -> None:
        del self._entries[entry.ti_id]
        self._ready_s.pop(entry.ref, None)
        self._given_back_s.pop(entry.ref, None)
        self._stories.end(entry.ti_id, Line(self._now, what, detail))

    def is_consistent(self) -> bool:
        """The invariant: exactly the running entries hold a reservation."""
        return all(bool(entry.reservation) == (entry.phase is Phase.RUNNING) for entry in self._entries.values())


def _places(assignment: Assignment) -> str:
    return ", ".join(share.place for share in assignment.shares)
