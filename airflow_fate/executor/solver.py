"""Who improves a plan without risk to the scheduler? A child process that runs the same ``plan`` and may be killed.

The child is started afresh (never forked: the scheduler has threads and database connections) and talks over a socket
pair in length-prefixed pickles. Whatever goes wrong there costs an improvement, never the plan: the caller keeps its
incumbent. Pickles only ever come from the child that this process started.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from airflow_fate.cluster import ClusterState
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner.plan import Plan, PlanConfig, ReadyStage
from airflow_fate.workflow import Workflow

log = logging.getLogger(__name__)
_LENGTH = struct.Struct("!Q")
START_S = 60.0
"""A child that is not ready so long after its start is killed: on a busy machine, its imports take long."""
GRACE_S = 2.0
"""A child that has not answered so long after its deadline is killed."""
REST_S = 0.5
"""So long may the rest of an answer take that has begun to come."""
RESPAWN_S = 5.0
"""At most one new child in this time, so that a child that always dies costs little."""


class SolverProcess:
    """Runs ``plan(...)`` in a child process.

    :param command: how the child is started; a test may give another.
    """

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "airflow_fate.executor.solver")) -> None:
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._asked = 0
        self._overdue_at = 0.0
        self._spawned_at = -RESPAWN_S

    def start(self) -> None:
        """Start the child, unless one runs or one was started just now."""
        if self.alive or time.monotonic() - self._spawned_at < RESPAWN_S:
            return
        self.stop()
        self._spawned_at = time.monotonic()
        ours, theirs = socket.socketpair()
        try:
            # A child of its own session: Ctrl-C for the scheduler must not reach it first.
            self._child = subprocess.Popen(
                [*self._command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            log.warning("The solver's process can't be started (%s): plans stay greedy.", error)
            ours.close()
            return
        finally:
            theirs.close()
        self._socket = ours
        # It says that it is ready by an answer to question 0, so nothing is asked while it still imports.
        self._asked = 0
        self._overdue_at = time.monotonic() + START_S

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None and self._socket is not None

    def tend(self) -> None:
        """Replace a child that has died or hangs. Cheap, and never raises: for every heartbeat."""
        if self.alive:
            try:
                self._drain()
            except Exception as error:
                self._drop(f"failed: {error!r}")
        elif self._child is not None:
            self._drop(f"ended with {self._child.poll()}")
        if not self.alive:
            self.start()

    def improve(
        self,
        frontier: Sequence[ReadyStage],
        workflows: Mapping[str, Workflow],
        state: ClusterState,
        costs: CostModel,
        now: float,
        config: PlanConfig,
        budget_s: float,
    ) -> Plan | None:
        """Ask for a better plan; None when none came within the budget. Never raises and never outlasts the budget."""
        deadline = time.monotonic() + budget_s
        self.tend()
        if not self.alive or self._overdue_at:
            return None
        try:
            self._asked += 1
            question = (self._asked, frontier, workflows, state, costs, now, config)
            self._send(pickle.dumps(question, pickle.HIGHEST_PROTOCOL), deadline)
            self._overdue_at = time.monotonic() + budget_s + GRACE_S
            while True:
                number, answer = self._receive(deadline)
                if number == self._asked:
                    self._overdue_at = 0.0
                    return answer
        except TimeoutError:
            if self._overdue_at and time.monotonic() > self._overdue_at:
                self._drop("does not answer")
            return None
        except Exception as error:
            # Whatever came from there, the caller has its incumbent.
            self._drop(f"failed: {error!r}")
            return None

    def stop(self) -> None:
        """End the child."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._child is not None:
            if self._child.poll() is None:
                self._child.kill()
            self._child.wait()
            self._child = None

    def _drain(self) -> None:
        """Read away the late answer to an earlier question, if one is open and its answer has come."""
        if not self._overdue_at:
            return
        try:
            number, _ = self._receive(time.monotonic() + 0.001)
        except TimeoutError:
            if time.monotonic() > self._overdue_at:
                raise OSError("no answer long after its deadline" if self._asked else "never got ready") from None
            return
        if number == self._asked:
            self._overdue_at = 0.0
        if number == 0 and self._child is not None:
            log.info("The solver's process %d is ready.", self._child.pid)

    def _drop(self, why: str) -> None:
        log.warning("The solver's process %s: it is ended, plans stay greedy until a new one has started.", why)
        self.stop()

    def _send(self, payload: bytes, deadline: float) -> None:
        assert self._socket is not None
        view = memoryview(_LENGTH.pack(len(payload)) + payload)
        started = False
        while view:
            left = deadline - time.monotonic()
            self._socket.settimeout(max(left, 0.0005))
            try:
                sent = self._socket.send(view)
            except TimeoutError:
                # Half a message can't be taken back.
                raise OSError("does not read") if started else TimeoutError() from None
            started = True
            view = view[sent:]

    def _receive(self, deadline: float) -> tuple[int, Plan | None]:
        assert self._socket is not None
        self._socket.settimeout(max(deadline - time.monotonic(), 0.0005))
        head = self._socket.recv(_LENGTH.size)
        # Once an answer has begun, the rest is under way: it comes from a local process that has finished computing.
        self._socket.settimeout(REST_S)
        head += _exactly(self._socket, _LENGTH.size - len(head)) if head else b""
        if not head:
            raise EOFError("it closed its end")
        answer: tuple[int, Plan | None] = pickle.loads(_exactly(self._socket, _LENGTH.unpack(head)[0]))
        return answer


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError("it closed its end")
        data += part
    return bytes(data)


def serve(connection: socket.socket) -> None:
    """The child: answer questions until the parent closes its end."""
    # Imported ahead, so that the first question does not pay for it.
    import ortools.sat.python.cp_model  # noqa: F401

    from airflow_fate.planner import plan

    _reply(connection, 0, None)
    while True:
        try:
            size = _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0]
            number, *arguments = pickle.loads(_exactly(connection, size))
        except EOFError:
            return
        try:
            answer: Plan | None = plan(*arguments)
        except Exception:
            log.exception("A plan failed")
            answer = None
        _reply(connection, number, answer)


def _reply(connection: socket.socket, number: int, answer: Plan | None) -> None:
    payload = pickle.dumps((number, answer), pickle.HIGHEST_PROTOCOL)
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
