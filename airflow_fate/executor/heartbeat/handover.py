"""How does a task learn where it is bound? An assignment becomes a reservation, that a binding, which goes
through Airflow's task state store; the task's facts come back the same way.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from airflow_fate.executor.database import session_scope
from airflow_fate.messages import (
    BINDING_KEY,
    SEAL_KEY,
    STATS_KEY,
    TOKEN_VALID_S,
    UNFENCED,
    Binding,
    Claims,
    Facts,
    Share,
    new_seal_key,
    sealed,
    sign,
    verified_facts,
)
from airflow_fate.state.ledger import DeviceShare, Reservation, new_id
from airflow_fate.workflow import conversation_key

if TYPE_CHECKING:
    from airflow_fate.cluster import Fleet
    from airflow_fate.executor.frontier import Entry
    from airflow_fate.planner.plan import Assignment
    from airflow_fate.workflow import Workflow

log = logging.getLogger(__name__)
MAX_STATS_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class TaskAddress:
    """Names a task instance in the state store."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, named: Any) -> TaskAddress:
        """The address of a task instance, or of a reservation's."""
        return cls(named.dag_id, named.run_id, named.task_id, named.map_index)


def reservation_for(
    ti: Any,
    assignment: Assignment,
    fleet: Fleet,
    workflow: Workflow,
    solver: str,
    overhead_s: float,
    now: float,
    tenant: str,
) -> Reservation:
    """What the ledger is asked for, for a task that the plan assigns.

    :param tenant: whose prompts these are, and who pays.
    :param overhead_s: time in which the device is held and its engine does nothing for the task.
    """
    shares = tuple(
        DeviceShare(
            member.id,
            share.place,
            member.node,
            max(1, min(share.prompts, member.max_seqs)),
            share.prompts,
            gpu=member.gpu,
        )
        for share in assignment.shares
        for member in fleet.members(share.place)
    )
    longest = max((share.cost for share in assignment.shares), key=lambda cost: cost.total_s)
    prefill_end_at = now + overhead_s + longest.load_s + longest.transfer_s + longest.prefill_s
    stage = assignment.ref.stage
    return Reservation(
        id=new_id(),
        ti_id=str(ti.id),
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=ti.map_index,
        try_number=ti.try_number,
        stage=stage,
        model=assignment.model,
        policy=solver,
        claimed_at=now,
        prefill_end_at=prefill_end_at,
        finish_at=prefill_end_at + longest.decode_s,
        shares=shares,
        reason=assignment.reason,
        chain=tuple((segment.key, segment.tokens) for segment in workflow.chain(stage)),
        conversation=conversation_key(assignment.model, assignment.ref),
        evict=assignment.evict,
        cost=longest.as_dict(),
        future_s=assignment.future_s,
        tenant=tenant,
    )


def binding_for(
    reservation: Reservation,
    urls: Mapping[str, str],
    secret: str,
    now: float,
    held_s: float,
    held_because: str,
    *,
    fenced: bool = True,
    warning: str = "",
) -> Binding:
    """The binding of a claimed reservation, with a token for each of its devices.

    Of a group, only the leader is told: its engine reaches the others.

    :param fenced: whether its fences were made by the ledger that all schedulers share.
    :param warning: what the task's log shall warn of.
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
            fence=share.fence if fenced else UNFENCED,
            live=share.live if fenced else (),
            model=reservation.model,
            evict=evict.get(share.place, ()),
            chain=reservation.chain,
            conversation=reservation.conversation,
            salt=_salt(secret, reservation.tenant) if reservation.tenant else "",
            task=_digest(secret, "task", *map(str, astuple(TaskAddress.of(reservation)))),
            sequences=share.sequences,
        )
        shares.append(
            Share(
                device=share.device,
                node=share.node,
                url=urls[share.device],
                token=sign(claims, secret),
                prompts=share.prompts,
                sequences=share.sequences,
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
        warning=warning,
        keep_key=_keep_key(secret, TaskAddress.of(reservation)),
    )


def refusal_for(entry: Entry, try_number: int, reason: str) -> Binding:
    """A binding that tells the task to fail, with the reason, in its own log."""
    return Binding(reservation="", ti_id=entry.ti_id, try_number=try_number, error=reason)


def write_binding(ti: Any, binding: Binding) -> None:
    """Put the binding where the task reads it, sealed with a key that goes with its workload alone."""
    from airflow.state import get_state_backend

    key = new_seal_key()
    ti.context_carrier = {**(ti.context_carrier or {}), SEAL_KEY: key}
    with session_scope() as session:
        value = json.dumps(sealed(binding, key))
        get_state_backend().set(_scope(TaskAddress.of(ti)), BINDING_KEY, value, session=session)


def read_facts(reservation: Reservation, secret: str) -> tuple[Facts, ...]:
    """What the gateways of the reservation have signed; empty when the task left nothing, or nothing that can be used.

    :raises Exception: whatever the state store raises.
    """
    from airflow.state import get_state_backend

    address = TaskAddress.of(reservation)
    with session_scope() as session:
        raw = get_state_backend().get(_scope(address), STATS_KEY, session=session)
    if not raw:
        return ()
    facts: list[Facts] = []
    try:
        if len(raw) > MAX_STATS_CHARS:
            raise ValueError(f"it is longer than {MAX_STATS_CHARS} characters")
        items: Any = json.loads(raw)
        if not isinstance(items, list | None):
            raise ValueError("it is no list")
        # One by one, so that those before a forged one count.
        facts.extend(verified_facts(item, secret) for item in items or ())
    except (ValueError, RecursionError) as error:
        log.warning("%s: %s is used as far as gateways have signed it (%s): %.80s", address, STATS_KEY, error, raw)
    devices = {share.device for share in reservation.shares}
    # Of devices that it never had, and of other tries, a reservation has nothing to say.
    return tuple(
        fact
        for fact in {fact.device: fact for fact in facts}.values()
        if fact.reservation == reservation.id and fact.device in devices
    )


def _scope(address: TaskAddress) -> Any:
    from airflow._shared.state import TaskScope

    return TaskScope(address.dag_id, address.run_id, address.task_id, address.map_index)


def _salt(secret: str, tenant: str) -> str:
    """Nobody else can name it, so nobody else can find out what the tenant's prompts begin with."""
    return _digest(secret, "salt", tenant)


def _keep_key(secret: str, address: TaskAddress) -> str:
    return base64.urlsafe_b64encode(_hmac(secret, "keep", *map(str, astuple(address)))).decode()


def _digest(secret: str, *parts: str) -> str:
    return _hmac(secret, *parts).hex()[:32]


def _hmac(secret: str, *parts: str) -> bytes:
    return hmac.new(secret.encode(), "\x1f".join(parts).encode(), hashlib.sha256).digest()
