"""Who holds which device? The ledger of reservations: each claim and release is one transaction, whoever plans.

Capacity is taken by a conditional UPDATE plus inserts in one transaction, so two planners can't book the same room
whatever they believed. A reservation ends by a fact about its try, never by its age.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from airflow_fate.state.tables import device, reservation, reservation_device

Connect = Callable[[], AbstractContextManager[Connection]]
"""Opens a connection in a transaction that commits when the block ends well."""

T = TypeVar("T")
CHUNK = 500
RETRY_S = 1.0
"""A heartbeat has no time to try again for longer."""
DATABASE_AWAY = (OperationalError, InterfaceError)
"""What says nothing against the rows that were asked for: the next ones would meet it, too."""


class ClaimLost(Exception):
    """The room was taken by someone else between snapshot and claim, or the try holds a reservation already."""


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """What a reservation holds of one device. ``place`` is the group's id when it is a member of one.

    :param gpu: the device's product; empty where the release that claimed it kept no record.
    """

    device: str
    place: str
    node: str
    sequences: int
    prompts: int
    fence: int = 0
    live: tuple[int, ...] = ()
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A try's hold on its devices. Times are Unix seconds; the estimates are those of the plan that made it.

    :param future_s: what the state that it leaves costs others (positive) or saves them; None where that is unknown.
    """

    id: str
    ti_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    stage: str
    model: str
    policy: str
    claimed_at: float
    prefill_end_at: float
    finish_at: float
    shares: tuple[DeviceShare, ...]
    reason: str = ""
    chain: tuple[tuple[str, int], ...] = ()
    conversation: str = ""
    evict: tuple[tuple[str, str], ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    future_s: float | None = None
    ended_at: float | None = None
    outcome: str | None = None
    facts: Any = None
    tenant: str = ""


class Ledger:
    """Claims, releases and reads of reservations.

    :param connect: opens a transaction on Airflow's database.
    :param clock: Unix seconds.
    :param sleep: waits so many seconds before it is tried again.
    """

    def __init__(
        self,
        connect: Connect,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._sleep = sleep

    def register(self, capacities: Mapping[str, int]) -> None:
        """Make devices known, or change their capacity in sequences. Never lowers what is used."""

        def work(connection: Connection) -> None:
            known: dict[str, int] = {
                row.id: row.capacity for row in connection.execute(select(device.c.id, device.c.capacity))
            }
            for device_id, capacity in sorted(capacities.items()):
                if device_id not in known:
                    connection.execute(
                        insert(device).values(id=device_id, capacity=capacity, used=0, fence=int(self._clock() * 1000))
                    )
                elif known[device_id] != capacity:
                    connection.execute(update(device).where(device.c.id == device_id).values(capacity=capacity))

        # Two schedulers may register the same device at once: the loser finds it there at its second try.
        self._transact(work, also_retry=IntegrityError)

    def claim(self, wanted: Reservation) -> Reservation:
        """Take all devices of a reservation, or none. The same may be claimed twice: it is granted once.

        :returns: the reservation with each device's fence and the fences that are live there.
        :raises ClaimLost: when a device has no room left, or the try holds a live reservation already.
        """

        def work(connection: Connection) -> Reservation:
            shares = []
            now_ms = int(self._clock() * 1000)
            # One order for all claimers, so that groups can't deadlock on each other.
            for share in sorted(wanted.shares, key=lambda share: share.device):
                granted = connection.execute(
                    update(device)
                    .where(device.c.id == share.device, device.c.used + share.sequences <= device.c.capacity)
                    .values(used=device.c.used + share.sequences, fence=_next_fence(now_ms))
                )
                if granted.rowcount != 1:
                    raise ClaimLost(f"{share.device} has no room left for {share.sequences} sequences")
                shares.append(share)
            # A scheduler of a release that didn't know this column has ended it without clearing it.
            connection.execute(
                update(reservation)
                .where(reservation.c.live_ti_id == wanted.ti_id, reservation.c.ended_at.is_not(None))
                .values(live_ti_id=None)
            )
            connection.execute(insert(reservation).values(**_row(wanted)))
            fenced = []
            for share in shares:
                fence = connection.scalar(select(device.c.fence).where(device.c.id == share.device))
                fenced.append(replace(share, fence=int(fence or 0), live=_live(connection, share.device)))
            connection.execute(
                insert(reservation_device),
                [
                    {
                        "reservation_id": wanted.id,
                        "device_id": share.device,
                        "place": share.place,
                        "node": share.node,
                        "sequences": share.sequences,
                        "prompts": share.prompts,
                        "fence": share.fence,
                        "gpu": share.gpu,
                    }
                    for share in fenced
                ],
            )
            order = {share.device: share for share in fenced}
            return replace(wanted, shares=tuple(order[share.device] for share in wanted.shares))

        try:
            return self._transact(work)
        except (ClaimLost, IntegrityError) as error:
            # The answer to a commit may have got lost: what was then in the way is the claim itself.
            if granted := self._granted(wanted):
                return granted
            if isinstance(error, ClaimLost):
                raise
            raise ClaimLost(f"try {wanted.ti_id} holds a live reservation already") from error

    def _granted(self, wanted: Reservation) -> Reservation | None:
        """A claim as it was granted, where it was and lives; each device also names who is live there by now."""

        def work(connection: Connection) -> Reservation | None:
            is_it = (reservation.c.id == wanted.id) & reservation.c.ended_at.is_(None)
            for found in _read(connection, is_it):
                by_device = {
                    share.device: replace(
                        share, live=tuple(each for each in _live(connection, share.device) if each != share.fence)
                    )
                    for share in found.shares
                }
                return replace(wanted, shares=tuple(by_device[share.device] for share in wanted.shares))
            return None

        return self._transact(work)

    def release(self, reservation_id: str, outcome: str) -> bool:
        """End a reservation and give its room back, once.

        :returns: False when it had ended before: maybe by this call, where the answer to its commit got lost.
        """

        def work(connection: Connection) -> bool:
            ended = connection.execute(
                update(reservation)
                .where(reservation.c.id == reservation_id, reservation.c.ended_at.is_(None))
                .values(ended_at=self._clock(), outcome=outcome, live_ti_id=None)
            )
            if ended.rowcount != 1:
                return False
            rows = connection.execute(
                select(reservation_device.c.device_id, reservation_device.c.sequences)
                .where(reservation_device.c.reservation_id == reservation_id)
                .order_by(reservation_device.c.device_id)
            ).all()
            for row in rows:
                connection.execute(
                    update(device).where(device.c.id == row.device_id).values(used=device.c.used - row.sequences)
                )
            return True

        return self._transact(work)

    def record_facts(self, reservation_id: str, facts: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was measured for a reservation, as :class:`airflow_fate.messages.Facts` has it.

        A load is kept for each device of its place: the members of a group load together.

        :raises ValueError: when it holds a number that JSON can't.
        """
        _check_json(facts)

        def work(connection: Connection) -> None:
            held = reservation_device.c.reservation_id == reservation_id
            connection.execute(update(reservation).where(reservation.c.id == reservation_id).values(facts=list(facts)))
            for fact in facts:
                load_s, end_at = fact.get("load_s"), fact.get("load_end_at")
                if not load_s or not end_at:
                    continue
                of_device = select(reservation_device.c.place).where(held)
                place = connection.scalar(of_device.where(reservation_device.c.device_id == fact["device"]))
                connection.execute(
                    update(reservation_device)
                    .where(held, reservation_device.c.place == place)
                    .values(load_start_at=end_at - load_s, load_end_at=end_at)
                )

        self._transact(work)

    def live(self) -> list[Reservation]:
        """All live reservations, of every scheduler, oldest first."""
        return self._transact(lambda connection: list(_read(connection, reservation.c.ended_at.is_(None))))

    def of_runs(self, runs: Sequence[tuple[str, str]]) -> list[Reservation]:
        """All reservations, live and ended, of (dag id, run id) pairs, oldest first."""

        def work(connection: Connection) -> list[Reservation]:
            reservations: list[Reservation] = []
            for dag_id, run_id in runs:
                reservations += _read(connection, (reservation.c.dag_id == dag_id) & (reservation.c.run_id == run_id))
            return reservations

        return self._transact(work)

    def run_ids(self, dag_id: str) -> list[str]:
        """The runs of a DAG that have had a reservation, in the order of their first ones."""
        first = func.min(reservation.c.claimed_at)
        wanted = (
            select(reservation.c.run_id)
            .where(reservation.c.dag_id == dag_id)
            .group_by(reservation.c.run_id)
            .order_by(first, reservation.c.run_id)
        )
        return self._transact(lambda connection: list(connection.scalars(wanted)))

    def prune(self, older_than_s: float) -> int:
        """Forget ended reservations of more than ``older_than_s`` ago; returns how many."""

        def work(connection: Connection) -> int:
            old = (reservation.c.ended_at.is_not(None)) & (reservation.c.ended_at < self._clock() - older_than_s)
            ids = connection.scalars(
                select(reservation.c.id).where(old).order_by(reservation.c.ended_at).limit(CHUNK)
            ).all()
            connection.execute(delete(reservation_device).where(reservation_device.c.reservation_id.in_(ids)))
            connection.execute(delete(reservation).where(reservation.c.id.in_(ids)))
            return len(ids)

        return self._transact(work)

    def audit(self) -> dict[str, tuple[int, int]]:
        """Devices whose ``used`` differs from the sum of their live reservations, as (used, sum); empty when all is
        well.
        """

        def work(connection: Connection) -> dict[str, tuple[int, int]]:
            sums = connection.execute(
                select(reservation_device.c.device_id, func.sum(reservation_device.c.sequences).label("held"))
                .join(reservation, reservation.c.id == reservation_device.c.reservation_id)
                .where(reservation.c.ended_at.is_(None))
                .group_by(reservation_device.c.device_id)
            )
            held = {row.device_id: int(row.held) for row in sums}
            rows = connection.execute(select(device.c.id, device.c.used)).all()
            return {row.id: (row.used, held.get(row.id, 0)) for row in rows if row.used != held.get(row.id, 0)}

        return self._transact(work)

    def _transact(self, work: Callable[[Connection], T], also_retry: type[Exception] = OperationalError) -> T:
        # SQLite says "database is locked", PostgreSQL may pick a deadlock victim: both pass with a short wait.
        for attempt in Retrying(
            stop=stop_after_attempt(4) | stop_after_delay(RETRY_S),
            wait=wait_random_exponential(multiplier=0.02, max=0.2),
            retry=retry_if_exception_type((OperationalError, also_retry)),
            sleep=self._sleep,
            reraise=True,
        ):
            with attempt, self._connect() as connection:
                return work(connection)
        raise AssertionError("unreachable")


def _next_fence(now_ms: int) -> ColumnElement[int]:
    """Higher than the device's last one, and than any that was given before a restore of the database: gateways have
    seen those."""
    return case((device.c.fence >= now_ms, device.c.fence + 1), else_=now_ms)


def new_id() -> str:
    return str(uuid.uuid4())


@contextmanager
def transaction(engine: Any) -> Iterator[Connection]:
    """One transaction on a SQLAlchemy engine, to be partially applied as a ``Connect``."""
    with engine.begin() as connection:
        yield connection


def _live(connection: Connection, device_id: str) -> tuple[int, ...]:
    """The fences that are live on a device."""
    live = connection.scalars(
        select(reservation_device.c.fence)
        .join(reservation, reservation.c.id == reservation_device.c.reservation_id)
        .where(reservation_device.c.device_id == device_id, reservation.c.ended_at.is_(None))
    )
    return tuple(sorted(live))


def _beside(connection: Connection, share: DeviceShare) -> tuple[int, ...]:
    """The other fences that are live on the device of a share."""
    return tuple(fence for fence in _live(connection, share.device) if fence != share.fence)


def _row(wanted: Reservation) -> dict[str, Any]:
    """:raises ValueError: when a number isn't finite; whoever reads it back would fail on it, not only its own task."""
    row = {column.name: getattr(wanted, column.name) for column in reservation.columns if column.name != "live_ti_id"}
    row |= {
        "live_ti_id": wanted.ti_id if wanted.ended_at is None else None,
        "chain": [list(link) for link in wanted.chain],
        "evict": [list(pair) for pair in wanted.evict],
        "cost": dict(wanted.cost),
    }
    _check_json(row)
    return row


def _check_json(value: Any) -> None:
    json.dumps(value, allow_nan=False)


def _read(connection: Connection, where: Any) -> Iterable[Reservation]:
    rows = connection.execute(
        select(reservation).where(where).order_by(reservation.c.claimed_at, reservation.c.id)
    ).all()
    shares: dict[str, list[DeviceShare]] = {}
    ids = [row.id for row in rows]
    for start in range(0, len(ids), CHUNK):
        for part in connection.execute(
            select(reservation_device)
            .where(reservation_device.c.reservation_id.in_(ids[start : start + CHUNK]))
            .order_by(reservation_device.c.device_id)
        ):
            shares.setdefault(part.reservation_id, []).append(
                DeviceShare(
                    part.device_id, part.place, part.node, part.sequences, part.prompts, part.fence, gpu=part.gpu
                )
            )
    for row in rows:
        values = dict(row._mapping)
        del values["live_ti_id"]
        values["chain"] = tuple((key, tokens) for key, tokens in row.chain)
        for name in ("prefill_end_at", "finish_at"):
            if not math.isfinite(values[name]):
                # An estimate of an older release; one row must not keep all others from being planned with.
                values[name] = row.claimed_at
        values["evict"] = tuple((place, model) for place, model in row.evict)
        yield Reservation(**values, shares=tuple(shares.get(row.id, ())))
