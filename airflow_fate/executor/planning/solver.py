"""Who looks for better rules without risk to the scheduler? A child process that rolls candidates out and may be
killed.

The child is started afresh (never forked: the scheduler has threads and database connections) and talks over a socket
pair in length-prefixed pickles. A thread does the talking, so the heartbeat never waits: it leaves a question, and
picks up an answer when there is one. Whatever goes wrong costs an improvement, never a plan. Pickles only ever come
from the child that this process started.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.plan import Placed

if TYPE_CHECKING:
    from airflow_fate.physics.restart.snapshot import Snapshot
    from airflow_fate.planner.search.improve import Better

log = logging.getLogger(__name__)
_LENGTH = struct.Struct("!Q")
START_S = 300.0
"""A child that is not ready so long after its start is killed: it may have to compile the kernel first."""
GRACE_S = 5.0
"""A child that has not answered so long after its limit is killed."""
RESPAWN_S = 5.0
"""At most one new child in this time, so that a child that always dies costs little."""


@dataclass(frozen=True)
class Question:
    """What is asked of the child.

    :param snapshot: makes the kernel's world; called in the talking thread.
    :param incumbent: the rule that is followed now.
    :param greedy: the rule that is always among the candidates.
    """

    snapshot: Callable[[], Snapshot]
    incumbent: Rule
    greedy: Rule
    objective: str
    seed: int
    limit_s: float


@dataclass(frozen=True)
class BetterRule:
    """What the child answered."""

    rule: Rule
    joint: tuple[Placed, ...] = ()


class SolverProcess:
    """Searches in a child process.

    :param command: how the child is started; a test may give another.
    """

    def __init__(
        self, command: Sequence[str] = (sys.executable, "-m", "airflow_fate.executor.planning.solver")
    ) -> None:
        self._command = list(command)
        self._talk: _Talk | None = None
        self._spawned_at = -RESPAWN_S

    def start(self) -> None:
        """Start the child, unless one runs or one was started just now."""
        if self.alive or time.monotonic() - self._spawned_at < RESPAWN_S:
            return
        self.stop()
        self._spawned_at = time.monotonic()
        try:
            self._talk = _Talk(self._command)
        except OSError as error:
            log.warning("The solver's process can't be started (%s): plans stay greedy.", error)

    @property
    def alive(self) -> bool:
        return self._talk is not None and not self._talk.ended

    def tend(self) -> None:
        """Replace a child that has died or hangs. Cheap, and never raises: for every heartbeat."""
        if self._talk is not None and self._talk.ended:
            log.warning(
                "The solver's process %s: it is ended, plans stay greedy until a new one has started.", self._talk.ended
            )
            self.stop()
        if not self.alive:
            self.start()

    def ask(self, question: Question) -> bool:
        """Leave a question; False where the child is still busy with one, or not ready."""
        return self._talk is not None and self._talk.leave(question)

    def answer(self) -> BetterRule | None:
        """The answer that has come since this was last asked for."""
        return self._talk.pick_up() if self._talk is not None else None

    def stop(self) -> None:
        """End the child."""
        if self._talk is not None:
            self._talk.close()
            self._talk = None


class _Talk:
    """One child, and the thread that talks to it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            # A child of its own session: Ctrl-C for the scheduler must not reach it first.
            self.child = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._why_ended = ""
        self._questions: queue.Queue[Question | None] = queue.Queue(1)
        self._idle = threading.Event()
        self._answer: BetterRule | None = None
        self._thread = threading.Thread(target=self._run, name="fate-solver", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> str:
        """Why it is over; empty while it is not. A child may die while nobody talks to it."""
        code = self.child.poll()
        if code is None:
            return ""
        return self._why_ended or f"ended with {code}"

    def leave(self, question: Question) -> bool:
        if self.ended or not self._idle.is_set():
            return False
        self._idle.clear()
        self._questions.put_nowait(question)
        return True

    def pick_up(self) -> BetterRule | None:
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        with suppress(queue.Full):
            self._questions.put_nowait(None)
        self._thread.join(GRACE_S)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._socket.settimeout(START_S)
            _receive(self._socket)
            log.info("The solver's process %d is ready.", self.child.pid)
            self._idle.set()
            while (question := self._questions.get()) is not None:
                snapshot = question.snapshot()
                _send(
                    self._socket,
                    (
                        snapshot.world,
                        question.incumbent,
                        question.greedy,
                        question.objective,
                        question.seed,
                        question.limit_s,
                    ),
                )
                self._socket.settimeout(question.limit_s + GRACE_S)
                self._answer = _named(_receive(self._socket), snapshot)
                self._idle.set()
        except TimeoutError:
            self._end("does not answer")
        except EOFError:
            # It is ending by itself.
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(GRACE_S)
            self._end("")
        except Exception as error:
            self._end(f"failed: {error!r}")

    def _end(self, why: str) -> None:
        self._why_ended = why
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def _named(better: Better | None, snapshot: Snapshot) -> BetterRule | None:
    if better is None:
        return None
    joint = (
        Placed(snapshot.frontier[stage], snapshot.places[place], prompts) for stage, place, prompts in better.joint
    )
    return BetterRule(better.rule, tuple(joint))


def _send(connection: socket.socket, message: object) -> None:
    payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def _receive(connection: socket.socket) -> Any:
    size = _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0]
    return pickle.loads(_exactly(connection, size))


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
    from airflow_fate.planner.search.improve import better_way
    from airflow_fate.planner.warm import warm

    # Compiled, or loaded, ahead, so that the first question does not pay for it.
    warm()
    _send(connection, None)
    while True:
        try:
            question = _receive(connection)
        except EOFError:
            return
        try:
            answer: Better | None = better_way(*question, clock=time.perf_counter)
        except Exception:
            log.exception("A search failed")
            answer = None
        _send(connection, answer)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
