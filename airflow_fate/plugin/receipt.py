"""Why here, what was expected, and what really happened? The receipt of a placement, from the ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_fate.messages import Facts
from airflow_fate.state.ledger import Reservation

PARTS = ("wait", "load", "transfer", "prefill", "decode", "sync")
"""Of what the time on a device consists, in their order."""
TOGETHER = "prefill and decode"
"""The part of an engine that doesn't tell the two apart."""
STARTING = "start"
"""The device is held, and its engine does nothing for the task yet."""


@dataclass(frozen=True, slots=True)
class Part:
    """Seconds of one kind: as the plan expected them, and as a gateway measured them; None where nobody knows."""

    name: str
    expected_s: float | None
    measured_s: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the time in which a device was held. Times are Unix seconds."""

    name: str
    start_at: float
    end_at: float


@dataclass(frozen=True, slots=True)
class HeldDevice:
    """A device of a placement, and what part of the work it got. ``place`` is its group's id where it is a member."""

    device: str
    place: str
    node: str
    prompts: int
    sequences: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the engines counted, over all requests of the placement."""

    requests: int
    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """One placement of one try. Times are Unix seconds.

    :param reason: why here, with the next best place and how much later the task would have ended there.
    :param evicted: (place, model) pairs that made room.
    :param future_s: what the state that it leaves costs others (positive) or saves them, as estimated; None where the
        release that placed it kept no record.
    :param ended_at: None while the devices are held.
    :param parts: of the device that takes longest. A batch's measured work adds up over its requests, which overlap.
    :param phases: the time in which the devices are held, by parts; measured where that is done.
    :param measured: whether ``phases`` are.
    :param tokens: None where nothing was measured.
    :param faults: (device, kind) of what the devices themselves did wrong.
    """

    reservation: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    model: str
    policy: str
    devices: tuple[HeldDevice, ...]
    reason: str
    evicted: tuple[tuple[str, str], ...]
    future_s: float | None
    claimed_at: float
    expected_prefill_end_at: float
    expected_end_at: float
    ended_at: float | None
    outcome: str | None
    parts: tuple[Part, ...]
    phases: tuple[Phase, ...]
    measured: bool
    tokens: Tokens | None
    faults: tuple[tuple[str, str], ...]

    @property
    def phases_end_at(self) -> float:
        """When the last phase ends; of a placement that was given back at once, when it was claimed."""
        return self.phases[-1].end_at if self.phases else self.claimed_at


def receipt_of(reservation: Reservation) -> Receipt:
    """What is known of a placement."""
    facts = _facts(reservation.facts)
    served = [fact for fact in facts if fact.requests]
    longest = max(served, key=_busy_s, default=None)
    parts = _parts(reservation, longest)
    return Receipt(
        reservation=reservation.id,
        dag_id=reservation.dag_id,
        run_id=reservation.run_id,
        task_id=reservation.task_id,
        map_index=reservation.map_index,
        try_number=reservation.try_number,
        model=reservation.model,
        policy=reservation.policy,
        devices=tuple(
            HeldDevice(share.device, share.place, share.node, share.prompts, share.sequences)
            for share in reservation.shares
        ),
        reason=reservation.reason,
        evicted=reservation.evict,
        future_s=reservation.future_s,
        claimed_at=reservation.claimed_at,
        expected_prefill_end_at=reservation.prefill_end_at,
        expected_end_at=reservation.finish_at,
        ended_at=reservation.ended_at,
        outcome=reservation.outcome,
        parts=parts,
        phases=_phases(reservation, parts, measured=longest is not None),
        measured=longest is not None,
        tokens=_tokens(served) if served else None,
        faults=tuple((fact.device, fact.fault) for fact in facts if fact.fault),
    )


def receipts(
    reservations: Iterable[Reservation], task_id: str | None = None, map_index: int | None = None
) -> tuple[Receipt, ...]:
    """The receipts of a run's placements, in their order.

    :param task_id: of this task alone.
    :param map_index: of this instance of it alone.
    """
    return tuple(
        receipt_of(reservation)
        for reservation in reservations
        if task_id in (None, reservation.task_id) and map_index in (None, reservation.map_index)
    )


def _facts(stored: Any) -> tuple[Facts, ...]:
    return tuple(Facts.model_validate(fact) for fact in stored or ())


def _busy_s(fact: Facts) -> float:
    return fact.wait_s + fact.load_s + fact.prefill_s + fact.decode_s + fact.engine_s


def _parts(reservation: Reservation, fact: Facts | None) -> tuple[Part, ...]:
    expected = {name: reservation.cost.get(name) for name in PARTS}
    measured: dict[str, float] = {}
    if fact is not None:
        measured = {"wait": fact.wait_s, "load": fact.load_s, "prefill": fact.prefill_s, "decode": fact.decode_s}
        if fact.engine_s:
            seconds = (expected.pop("prefill"), expected.pop("decode"))
            both = None if None in seconds else sum(filter(None, seconds))
            # In their place among the others.
            expected = {name: expected[name] for name in ("wait", "load", "transfer")} | {
                TOGETHER: both,
                "sync": expected["sync"],
            }
            measured[TOGETHER] = fact.engine_s + fact.prefill_s + fact.decode_s
    return tuple(Part(name, seconds, measured.get(name)) for name, seconds in expected.items())


def _phases(reservation: Reservation, parts: Iterable[Part], *, measured: bool) -> tuple[Phase, ...]:
    """The stretch from claim to end. What no part accounts for comes first: most of it is the task's start-up."""
    begin_at = reservation.claimed_at
    end_at = reservation.finish_at if reservation.ended_at is None else reservation.ended_at
    held_s = max(0.0, end_at - begin_at)
    lengths = {part.name: (part.measured_s if measured else part.expected_s) or 0.0 for part in parts}
    busy_s = sum(lengths.values())
    # Requests of a batch overlap, and a try may end before its estimate: then the parts show in what proportion.
    scale = min(1.0, held_s / busy_s) if busy_s else 0.0
    phases = []
    at = begin_at
    for name, length_s in ((STARTING, held_s - scale * busy_s), *((name, scale * s) for name, s in lengths.items())):
        if length_s > 0:
            phases.append(Phase(name, at, at + length_s))
            at += length_s
    return tuple(phases)


def _tokens(served: Iterable[Facts]) -> Tokens:
    known = tuple(served)
    return Tokens(
        requests=sum(fact.requests for fact in known),
        prompt=sum(fact.prompt_tokens for fact in known),
        cached=sum(fact.cached_tokens for fact in known),
        completion=sum(fact.completion_tokens for fact in known),
    )
