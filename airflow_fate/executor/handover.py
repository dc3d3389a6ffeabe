"""How does a task learn where it is bound? Through Airflow's task state store; its facts come back the same way."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_fate.messages import BINDING_KEY, STATS_KEY, Binding, Claims, Facts, Share, reader_token, sign

if TYPE_CHECKING:
    from airflow_fate.executor.frontier import Entry
    from airflow_fate.state.ledger import Reservation

log = logging.getLogger(__name__)
TOKEN_VALID_S = 24 * 3600.0
"""Bounds a stolen token; a reservation itself ends by facts, and its token with it."""


@dataclass(frozen=True, slots=True)
class TaskAddress:
    """Names a task instance in the state store."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def binding_for(
    reservation: Reservation, urls: Mapping[str, str], secret: str, now: float, held_s: float, held_because: str
) -> Binding:
    """The binding of a claimed reservation, with a token for each of its devices.

    Of a group, only the leader is told: its engine reaches the others.

    :raises KeyError: when a device has no address any more.
    """
    evict = {place: tuple(model for at, model in reservation.evict if at == place) for place, _ in reservation.evict}
    seen: set[str] = set()
    shares = []
    for share in reservation.shares:
        if share.place in seen:
            continue
        seen.add(share.place)
        claims = Claims(
            aud=share.device,
            sub=reservation.ti_id,
            jti=reservation.id,
            exp=int(now + TOKEN_VALID_S),
            fence=share.fence,
            live=share.live,
            model=reservation.model,
            evict=evict.get(share.place, ()),
            chain=reservation.chain,
            conversation=reservation.conversation,
        )
        shares.append(
            Share(
                device=share.device,
                node=share.node,
                url=urls[share.device],
                token=sign(claims, secret),
                prompts=share.prompts,
            )
        )
    return Binding(
        reservation=reservation.id,
        ti_id=reservation.ti_id,
        try_number=reservation.try_number,
        model=reservation.model,
        shares=tuple(shares),
        reason=reservation.reason,
        held_s=held_s,
        held_because=held_because,
        cost=dict(reservation.cost),
        reader=reader_token(secret, reservation.ti_id, TOKEN_VALID_S),
    )


def refusal_for(entry: Entry, try_number: int, reason: str) -> Binding:
    """A binding that tells the task to fail, with the reason, in its own log."""
    return Binding(reservation="", ti_id=entry.ti_id, try_number=try_number, error=reason)


def write_binding(address: TaskAddress, binding: Binding) -> None:
    """Put the binding where the task reads it."""
    from airflow.state import get_state_backend

    get_state_backend().set(_scope(address), BINDING_KEY, binding.model_dump_json())


def read_facts(address: TaskAddress, reservation_id: str) -> tuple[Facts, ...]:
    """What the task's try reported of its requests; empty when it reported nothing."""
    from airflow.state import get_state_backend

    raw = get_state_backend().get(_scope(address), STATS_KEY)
    try:
        found: Any = json.loads(raw) if raw else []
        facts = [Facts.model_validate(item) for item in found] if isinstance(found, list) else []
    except (ValueError, ValidationError):
        log.warning("%s: %s can't be read: %.80s", address, STATS_KEY, raw)
        return ()
    return tuple(fact for fact in facts if fact.reservation == reservation_id)


def _scope(address: TaskAddress) -> Any:
    from airflow._shared.state import TaskScope

    return TaskScope(address.dag_id, address.run_id, address.task_id, address.map_index)
