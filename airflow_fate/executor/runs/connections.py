"""Which connection is of type ``fate``, and which model does it name? Airflow is asked, in a thread of its own.

Environment, secrets backends and database may answer, some of them over the network, so no heartbeat waits for them. A
task whose connection isn't known yet is planned a heartbeat later.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_fate.messages import StageSpec

log = logging.getLogger(__name__)
CONN_TYPE = "fate"
REFRESH_S = 30.0
RETRY_S = 5.0
STOP_S = 5.0
KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a connection.

    :param conn_type: empty when there is no such connection.
    :param model: that its extra names.
    """

    conn_type: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """The task runs on the fleet, with a spec that names its model."""

    spec: StageSpec


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The task's connection leads away from the fleet: FATE has nothing to do with it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The task can't run."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotKnownYet:
    """The connection is being looked up."""

    reason: str


Verdict = Placed | Elsewhere | Refused | NotKnownYet


def judge(spec: StageSpec, known: Known | None, trouble: str = "") -> Verdict:
    """What becomes of a task with such a connection. Pure.

    :param trouble: why it can't be looked up.
    """
    name = spec.conn_id
    if known is None:
        return NotKnownYet(
            f"connection {name!r} can't be looked up: {trouble}" if trouble else f"connection {name!r} is looked up"
        )
    if known.conn_type != CONN_TYPE and spec.only_on_fate:
        return Elsewhere()
    if not known.conn_type:
        return Refused(
            f"connection {name!r} doesn't exist, in the scheduler's environment, secrets backends and database: "
            f"`airflow connections add {name} --conn-type fate` makes it"
        )
    if known.conn_type != CONN_TYPE:
        return Refused(f"connection {name!r} must be of type `fate` for this task, it is of type {known.conn_type!r}")
    if spec.problem:
        return Refused(spec.problem)
    model = spec.model or known.model
    if not model:
        return Refused(
            f'no model is named: give the task one, or set it in the extra of connection {name!r}: {{"model": "..."}}'
        )
    return Placed(spec if spec.model == model else spec.model_copy(update={"model": model}))


def look_up(conn_id: str) -> Known:
    """Ask Airflow's secrets backends, its environment and its database.

    :raises Exception: whatever a backend raises that can't answer.
    """
    from airflow.models.connection import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return Known()
    model = connection.extra_dejson.get("model", "")
    return Known(connection.conn_type or "", model if isinstance(model, str) else "")


class Connections:
    """What is known of the connections that tasks name, looked up again every half minute.

    :param find: looks one up; may take its time, and may fail.
    :param clock: monotonic seconds.
    """

    def __init__(self, find: Callable[[str], Known] = look_up, clock: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._trouble: dict[str, str] = {}
        self._asked_at: dict[str, float] = {}
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.version = 0
        """Grows with each answer that says something new."""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="fate-connections", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(STOP_S)

    def judge(self, spec: StageSpec) -> Verdict:
        """What becomes of a task, by what is known now. Never waits."""
        now = self._clock()
        pause_s = RETRY_S if spec.conn_id in self._trouble else REFRESH_S
        if now - self._asked_at.get(spec.conn_id, -pause_s) >= pause_s:
            if len(self._asked_at) > KEPT:
                self._asked_at.clear()
                self._known.clear()
                self._trouble.clear()
            self._asked_at[spec.conn_id] = now
            self._queue.put(spec.conn_id)
        return self._verdict(spec)

    def judge_now(self, spec: StageSpec) -> Verdict:
        """The same, with a look-up in this thread where nothing is known yet."""
        if spec.conn_id not in self._known:
            self._take_in(spec.conn_id)
        return self._verdict(spec)

    def placed(self, spec: StageSpec) -> StageSpec | None:
        """The spec with its model, if the task is known to run on the fleet."""
        verdict = self.judge(spec)
        return verdict.spec if isinstance(verdict, Placed) else None

    def _verdict(self, spec: StageSpec) -> Verdict:
        return judge(spec, self._known.get(spec.conn_id), self._trouble.get(spec.conn_id, ""))

    def _run(self) -> None:
        while (conn_id := self._queue.get()) is not None:
            self._take_in(conn_id)

    def _take_in(self, conn_id: str) -> None:
        try:
            known = self._find(conn_id)
        except Exception as error:
            # What was known before is still the best guess.
            log.warning("Connection %s can't be looked up: %r", conn_id, error)
            self._trouble[conn_id] = repr(error)
            return
        self._trouble.pop(conn_id, None)
        if self._known.get(conn_id) != known:
            self._known[conn_id] = known
            self.version += 1
