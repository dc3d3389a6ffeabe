"""How do processes of one simulation go on, one transaction or message at a time? As greenlets that pause."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from greenlet import getcurrent, greenlet

from tests.faults.simulation.schedule import Fault


class Crash(BaseException):
    """The process is killed: no code of the product may catch this."""


class Process:
    """Something that runs, and pauses before each thing that others can see.

    :param life: what it does from its start to its end.
    """

    def __init__(self, name: str, life: Callable[[], None]) -> None:
        self.name = name
        self._life = life
        self._greenlet = greenlet(self._run)
        self._fault = Fault.NONE
        self.is_at_rest = False
        """Whether it waits for nothing but time."""

    @property
    def is_over(self) -> bool:
        return bool(self._greenlet.dead)

    def resume(self, fault: Fault = Fault.NONE) -> None:
        """Let it go on to its next pause; what it does meanwhile meets this fault."""
        self._fault = fault
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()

    def pause(self, at_rest: bool = False) -> Fault:
        """Wait for the next step, from inside; what is done until the next pause meets the returned fault."""
        self.is_at_rest = at_rest
        self._greenlet.parent.switch()
        self.is_at_rest = False
        return self._fault

    def kill(self) -> None:
        if self._greenlet and not self.is_over:
            self._greenlet.parent = getcurrent()
            self._greenlet.throw(Crash())

    def _run(self) -> None:
        with suppress(Crash):
            self._life()
