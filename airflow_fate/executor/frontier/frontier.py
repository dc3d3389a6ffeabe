"""What happens to a ready LLM task? The frontier: a pure state machine, events in, instructions out.

A task is *held* until a plan assigns it, *claiming* while the ledger is asked for its devices, *running* from its
dispatch until its try has ended. All I/O stands outside: the executor feeds events and carries out instructions
(the manner of dask.distributed's worker state machine).

    Queued -> HELD -- Planned --> CLAIMING -- Claimed --> RUNNING -- Ended --> (gone)
                ^                    |
                +---- ClaimLost -----+          Revoked, give back: (gone), releasing what it holds
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from airflow_fate.planner.plan import Assignment, Plan
from airflow_fate.workflow import StageRef

FORGET_S = 24 * 3600.0
"""A task that was given back and didn't come again for so long has lost its turn."""


class Phase(StrEnum):
    HELD = "held"
    CLAIMING = "claiming"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Entry:
    """One try of a task in the frontier.

    :param ti_id: the try's UUID.
    :param key: the executor's own key, never looked into here.
    :param ready_s: since when it is ready, over all times it was given back.
    :param queued_s: when Airflow queued it this time.
    :param reservation: ledger id, once claimed.
    """

    ti_id: str
    key: Hashable
    ref: StageRef
    ready_s: float
    queued_s: float
    phase: Phase = Phase.HELD
    reservation: str = ""
    note: str = ""


# Events


@dataclass(frozen=True, slots=True)
class Queued:
    """Airflow handed a task over."""

    ti_id: str
    key: Hashable
    ref: StageRef
    now: float


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner answered for the held tasks."""

    plan: Plan
    now: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """The ledger granted all devices of an assignment."""

    ti_id: str
    reservation: str


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """The ledger refused: someone else took the room."""

    ti_id: str


@dataclass(frozen=True, slots=True)
class HandoverFailed:
    """The binding could not be given to a claimed task, which therefore has not started."""

    ti_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Tries that the database says have ended (or deferred)."""

    ti_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Airflow takes a task back."""

    ti_id: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Held tries that turned out to run elsewhere than on the fleet."""

    ti_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adopted:
    """A running task of a scheduler that died, with its live reservation."""

    ti_id: str
    key: Hashable
    ref: StageRef
    reservation: str
    now: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes."""

    now: float


Event = Queued | Planned | Claimed | ClaimLost | HandoverFailed | Ended | Revoked | Elsewhere | Adopted | Tick


# Instructions


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask the ledger for the devices of an assignment; answer with Claimed or ClaimLost."""

    entry: Entry
    assignment: Assignment
    held_s: float


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Write the binding and give the task to the inner executor."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Fail:
    """Let the task fail with a reason: nothing can ever serve it."""

    entry: Entry
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """End the reservation of a try in the ledger."""

    entry: Entry
    outcome: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Return the task to Airflow's scheduler, which will queue it anew: it must not grow old as QUEUED."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class PassOn:
    """Give the task to the inner executor as it is."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the task's reader why it waits."""

    entry: Entry
    text: str


Instruction = Claim | Dispatch | Fail | Release | GiveBack | PassOn | Say


class Frontier:
    """The tasks that FATE answers for.

    :param hold_limit_s: a held task is given back when it has been QUEUED for so long.
    :param say_after_s: a task that is held for longer is told why, once for each reason.
    """

    def __init__(self, hold_limit_s: float, say_after_s: float = 5.0) -> None:
        self._hold_limit_s = hold_limit_s
        self._say_after_s = say_after_s
        self._entries: dict[str, Entry] = {}
        self._ready_s: dict[StageRef, float] = {}
        self._given_back_s: dict[StageRef, float] = {}
        """When those were given back whose age is kept until they come again."""

    def held(self) -> tuple[Entry, ...]:
        """Tasks that wait for a plan, in the order in which they came."""
        return self._in(Phase.HELD)

    def running(self) -> tuple[Entry, ...]:
        """Tasks that hold a reservation."""
        return self._in(Phase.RUNNING)

    def get(self, ti_id: str) -> Entry | None:
        return self._entries.get(ti_id)

    def __len__(self) -> int:
        return len(self._entries)

    def handle(self, event: Event) -> list[Instruction]:
        """Change state by one event and say what is to be done, in this order."""
        match event:
            case Queued():
                return self._queued(event)
            case Planned():
                return self._planned(event)
            case Claimed():
                return self._claimed(event)
            case ClaimLost():
                entry = self._entries.get(event.ti_id)
                if entry and entry.phase is Phase.CLAIMING:
                    self._entries[event.ti_id] = replace(entry, phase=Phase.HELD)
                return []
            case HandoverFailed():
                entry = self._entries.get(event.ti_id)
                if entry is None or entry.phase is not Phase.RUNNING:
                    return []
                self._entries[event.ti_id] = replace(entry, phase=Phase.HELD, reservation="")
                return [Release(entry, "handover failed")]
            case Ended():
                return list(self._gone(event.ti_ids, "ended"))
            case Revoked():
                return list(self._gone((event.ti_id,), "revoked"))
            case Elsewhere():
                return list(self._passed_on(event.ti_ids))
            case Adopted():
                self._entries[event.ti_id] = Entry(
                    event.ti_id, event.key, event.ref, event.now, event.now, Phase.RUNNING, event.reservation
                )
                return []
            case Tick():
                return self._tick(event.now)

    def _in(self, phase: Phase) -> tuple[Entry, ...]:
        return tuple(entry for entry in self._entries.values() if entry.phase is phase)

    def _queued(self, event: Queued) -> list[Instruction]:
        known = self._entries.get(event.ti_id)
        instructions: list[Instruction] = []
        if known is not None and known.phase is Phase.HELD:
            return []
        if known is not None and known.reservation:
            # The same try comes again after a deferral: its first half no longer holds anything.
            instructions.append(Release(known, "deferred"))
        self._given_back_s.pop(event.ref, None)
        ready_s = self._ready_s.setdefault(event.ref, event.now)
        self._entries[event.ti_id] = Entry(event.ti_id, event.key, event.ref, ready_s, event.now)
        return instructions

    def _planned(self, event: Planned) -> list[Instruction]:
        held = {entry.ref: entry for entry in self.held()}
        instructions: list[Instruction] = []
        for assignment in event.plan.assignments:
            if entry := held.pop(assignment.ref, None):
                self._entries[entry.ti_id] = replace(entry, phase=Phase.CLAIMING)
                instructions.append(Claim(entry, assignment, event.now - entry.ready_s))
        for impossible in event.plan.impossible:
            if entry := held.pop(impossible.ref, None):
                self._forget(entry)
                instructions.append(Fail(entry, impossible.reason))
        for hold in event.plan.holds:
            entry = held.get(hold.ref)
            if entry and event.now - entry.queued_s >= self._say_after_s and not entry.note:
                self._entries[entry.ti_id] = replace(entry, note=hold.reason)
                instructions.append(Say(entry, hold.reason))
        return instructions

    def _claimed(self, event: Claimed) -> list[Instruction]:
        entry = self._entries.get(event.ti_id)
        if entry is None or entry.phase is not Phase.CLAIMING:
            # It was taken back while the ledger was asked.
            gone = entry or Entry(event.ti_id, None, StageRef("", ""), 0.0, 0.0)
            return [Release(replace(gone, reservation=event.reservation), "revoked")]
        entry = replace(entry, phase=Phase.RUNNING, reservation=event.reservation)
        self._entries[event.ti_id] = entry
        return [Dispatch(entry)]

    def _gone(self, ti_ids: Iterable[str], outcome: str) -> Iterable[Instruction]:
        for ti_id in ti_ids:
            if entry := self._entries.get(ti_id):
                self._forget(entry)
                if entry.reservation:
                    yield Release(entry, outcome)

    def _passed_on(self, ti_ids: Iterable[str]) -> Iterable[Instruction]:
        for ti_id in ti_ids:
            entry = self._entries.get(ti_id)
            if entry and entry.phase is Phase.HELD:
                self._forget(entry)
                yield PassOn(entry)

    def _tick(self, now: float) -> list[Instruction]:
        instructions: list[Instruction] = []
        for entry in self.held():
            if now - entry.queued_s >= self._hold_limit_s:
                # Its age is kept, so that it does not lose its turn.
                del self._entries[entry.ti_id]
                self._given_back_s[entry.ref] = now
                instructions.append(GiveBack(entry))
        for ref in [ref for ref, at in self._given_back_s.items() if now - at >= FORGET_S]:
            # It never came again: its run was deleted, or marked as done.
            del self._given_back_s[ref]
            self._ready_s.pop(ref, None)
        return instructions

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.ti_id, None)
        self._ready_s.pop(entry.ref, None)
        self._given_back_s.pop(entry.ref, None)

    def is_consistent(self) -> bool:
        """The invariant: exactly the running entries hold a reservation."""
        return all(bool(entry.reservation) == (entry.phase is Phase.RUNNING) for entry in self._entries.values())
