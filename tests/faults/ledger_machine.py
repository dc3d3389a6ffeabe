"""Does the ledger do what a few lines of Python say it does? Hypothesis calls both, in any order, with any fault.

Two schedulers' ledgers share one database. Commits are refused, or their answers get lost, and clocks jump.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.exc import OperationalError

from airflow_fate.state.ledger import ClaimLost, DeviceShare, Ledger, Reservation
from airflow_fate.state.presence import Presence
from airflow_fate.state.tables import device, metadata, reservation, reservation_device

DEVICES = ("d0", "d1", "d2")
TRIES = ("t0", "t1", "t2", "t3")
BEGIN_S = 1_000_000.0
ATTEMPTS = 4
"""So often a ledger tries to write."""


class Commit(StrEnum):
    """What becomes of a transaction."""

    DONE = "done"
    REFUSED = "refused"
    ANSWER_LOST = "answer lost"
    AWAY = "away"
    """All are refused, until the next call."""


@dataclass(frozen=True)
class Hold:
    """A live reservation, as the model knows it."""

    ti_id: str
    sequences: Mapping[str, int]
    fences: Mapping[str, int]


class LedgerMachine(RuleBasedStateMachine):
    """Two ledgers on one database against a model.

    :param engine: a database with FATE's tables, of which all rows are deleted.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        with engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        self.commits: list[Commit] = []
        self.now = BEGIN_S
        self.ledgers = [Ledger(self.connect, lambda: self.now, sleep=lambda seconds: None) for _ in range(2)]
        self.presence = Presence(self.connect)
        self.capacity: dict[str, int] = {}
        self.newest: dict[str, int] = {}
        self.live: dict[str, Hold] = {}
        self.ended: dict[str, float] = {}
        """Reservation -> when it ended."""
        self.asked: dict[str, Reservation] = {}
        """What was wanted and isn't forgotten, by id."""
        self.names = (f"r{number}" for number in itertools.count())

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        fate = self.commits.pop(0) if self.commits else Commit.DONE
        with self.engine.connect() as connection, connection.begin() as transaction:
            yield connection
            if fate in (Commit.REFUSED, Commit.AWAY):
                transaction.rollback()
                raise OperationalError("COMMIT", None, Exception("refused"))
            transaction.commit()
        if fate is Commit.ANSWER_LOST:
            raise OperationalError("COMMIT", None, Exception("the answer got lost"))

    def meet(self, commit: Commit) -> None:
        self.commits = [commit] * (ATTEMPTS if commit is Commit.AWAY else 1)

    def one(self, pick: int) -> str:
        """Some reservation that was wanted; at first, one that never was."""
        return list(self.asked)[pick % len(self.asked)] if self.asked else "never"

    def used(self, name: str) -> int:
        return sum(hold.sequences.get(name, 0) for hold in self.live.values())

    # What schedulers do

    @rule(capacities=st.dictionaries(st.sampled_from(DEVICES), st.integers(0, 3), min_size=1), who=st.integers(0, 1))
    def register(self, capacities: dict[str, int], who: int) -> None:
        """Devices come, and grow, shrink, or are drained."""
        self.ledgers[who].register(capacities)
        self.capacity |= capacities

    @rule(
        ti_id=st.sampled_from(TRIES),
        sequences=st.dictionaries(st.sampled_from(DEVICES), st.integers(1, 2), min_size=1, max_size=2),
        who=st.integers(0, 1),
        commit=st.sampled_from(Commit),
    )
    def claim(self, ti_id: str, sequences: dict[str, int], who: int, commit: Commit) -> None:
        shares = tuple(DeviceShare(name, name, "node", count, count) for name, count in sequences.items())
        task = (ti_id, "d", "r", ti_id, -1, 1, ti_id)
        wanted = Reservation(next(self.names), *task, "m", "fate", self.now, self.now, self.now, shares)
        self.asked[wanted.id] = wanted
        self.expect_claim(wanted, who, commit)

    @rule(pick=st.integers(0, 1000), who=st.integers(0, 1), commit=st.sampled_from(Commit))
    def claim_doubled(self, pick: int, who: int, commit: Commit) -> None:
        """The same is wanted again, by a call that comes twice."""
        if self.asked:
            self.expect_claim(self.asked[self.one(pick)], who, commit)

    def expect_claim(self, wanted: Reservation, who: int, commit: Commit) -> None:
        sequences = {share.device: share.sequences for share in wanted.shares}
        has_room = all(self.used(name) + count <= self.capacity.get(name, -1) for name, count in sequences.items())
        is_free = wanted.id not in self.ended and all(hold.ti_id != wanted.ti_id for hold in self.live.values())
        self.meet(commit)
        try:
            granted = self.ledgers[who].claim(wanted)
        except ClaimLost:
            assert not (has_room and is_free and wanted.id not in self.live)
            return
        except OperationalError:
            assert commit is Commit.AWAY
            return
        if wanted.id in self.live:
            assert {share.device: share.fence for share in granted.shares} == self.live[wanted.id].fences
            return
        assert has_room
        assert is_free
        for share in granted.shares:
            assert share.fence > self.newest.get(share.device, 0), "fences grow"
            others = sorted(hold.fences[share.device] for hold in self.live.values() if share.device in hold.fences)
            assert list(share.live) == others, "a claim is told who else is live"
            self.newest[share.device] = share.fence
        fences = {share.device: share.fence for share in granted.shares}
        self.live[wanted.id] = Hold(wanted.ti_id, sequences, fences)

    @rule(pick=st.integers(0, 1000), who=st.integers(0, 1), commit=st.sampled_from(Commit))
    def release(self, pick: int, who: int, commit: Commit) -> None:
        """End something that lives, has ended, or never was."""
        name = self.one(pick)
        self.meet(commit)
        try:
            was_ended = self.ledgers[who].release(name, "success")
        except OperationalError:
            assert commit is Commit.AWAY
            return
        assert was_ended is (name in self.live) or commit is Commit.ANSWER_LOST
        if self.live.pop(name, None):
            self.ended[name] = self.now

    @rule(pick=st.integers(0, 1000), who=st.integers(0, 1))
    def record_facts(self, pick: int, who: int) -> None:
        name = self.one(pick)
        facts = [{"device": "d0", "load_s": 1.0, "load_end_at": self.now}]
        self.ledgers[who].record_facts(name, facts)
        known = {each.id: each.facts for each in self.ledgers[1 - who].of_runs([("d", "r")])}
        assert known.get(name, facts) == facts

    @rule(older_than_s=st.sampled_from([0.0, 60.0]), who=st.integers(0, 1))
    def prune(self, older_than_s: float, who: int) -> None:
        forgotten = {name for name, at in self.ended.items() if at < self.now - older_than_s}
        assert self.ledgers[who].prune(older_than_s) == len(forgotten)
        for name in forgotten:
            del self.ended[name], self.asked[name]

    @rule(names=st.sets(st.sampled_from(DEVICES), min_size=1))
    def note_presence(self, names: set[str]) -> None:
        self.presence.note(names, self.now)
        there = {name for name, spell in self.presence.between(self.now - 1, self.now + 1) if spell.end_at >= self.now}
        assert names <= there

    @rule(jump_s=st.sampled_from([1.0, 90.0, -1.0, -3600.0, 3600.0]))
    def clock_jumps(self, jump_s: float) -> None:
        self.now += jump_s

    # What is always true

    @invariant()
    def what_is_used_is_what_live_reservations_hold(self) -> None:
        assert self.ledgers[0].audit() == {}
        with self.engine.connect() as connection:
            used = {row.id: row.used for row in connection.execute(select(device.c.id, device.c.used))}
        assert used == {name: self.used(name) for name in self.capacity}

    @invariant()
    def exactly_these_live(self) -> None:
        live = self.ledgers[1].live()
        assert {each.id for each in live} == self.live.keys()
        assert len({each.ti_id for each in live}) == len(live), "a try holds one at most"
        for each in live:
            assert {share.device: share.fence for share in each.shares} == self.live[each.id].fences

    @invariant()
    def each_share_has_its_reservation(self) -> None:
        orphans = (
            select(func.count())
            .select_from(reservation_device)
            .outerjoin(reservation, reservation.c.id == reservation_device.c.reservation_id)
            .where(reservation.c.id.is_(None))
        )
        with self.engine.connect() as connection:
            assert connection.scalar(orphans) == 0


def machine_on(engine: Engine) -> type[LedgerMachine]:
    """The machine on a database, as Hypothesis wants it."""

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(engine)

    return Machine
