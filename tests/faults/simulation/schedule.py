"""What happens when? A schedule: whose turn it is in each step, what goes wrong then, and how much time passes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Actor(StrEnum):
    SCHEDULER_A = "scheduler-a"
    SCHEDULER_B = "scheduler-b"
    WORKER = "worker"
    NETWORK = "network"
    OPERATOR = "operator"
    """Changes the fleet and clocks, and kills; each of its steps is a fault."""


class Fault(StrEnum):
    NONE = "none"
    CRASH_BEFORE = "crashes before the commit"
    CRASH_AFTER = "crashes after the commit"
    REFUSED = "is refused by the database"
    LOST = "loses the database's answer"
    AWAY = "finds the database away for a while"
    STALLED = "stalls"
    DOUBLED = "is doubled"


class Step(NamedTuple):
    """One step.

    :param pick: which of what the actor may do.
    :param after_s: how much time passes before it.
    """

    actor: Actor
    pick: int = 0
    fault: Fault = Fault.NONE
    after_s: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A world, and what happens in it.

    :param tasks: how many there are.
    :param adopts: whether the inner executor can adopt what it was given by a scheduler that died.
    """

    tasks: int
    adopts: bool
    steps: tuple[Step, ...]


_ACTORS = (Actor.SCHEDULER_A,) * 6 + (Actor.SCHEDULER_B,) * 6 + (Actor.WORKER,) * 6 + (Actor.NETWORK,) * 4
_FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
_FAULTS_OF_MESSAGES = (Fault.CRASH_BEFORE, Fault.LOST, Fault.REFUSED, Fault.STALLED, Fault.DOUBLED, Fault.DOUBLED)
_OFTENER = 3
"""Messages fail so much more often than a database: a schedule has fewer of them than of transactions."""
_TIMES_S = (0.0,) * 6 + (0.5, 1.0, 1.0, 2.0, 5.0, 12.0)


def drawn(seed: int, steps: int) -> Schedule:
    """The schedule of a seed."""
    draw = random.Random(seed)
    fault_rate = draw.choice((0.0, 0.02, 0.05, 0.1))
    actors = _ACTORS + (Actor.OPERATOR,) * draw.choice((0, 1, 1))
    made = []
    for _ in range(steps):
        actor = draw.choice(actors)
        is_message = actor in (Actor.WORKER, Actor.NETWORK)
        is_fault = draw.random() < fault_rate * (_OFTENER if is_message else 1)
        fault = draw.choice(_FAULTS_OF_MESSAGES if is_message else _FAULTS) if is_fault else Fault.NONE
        after_s = draw.choice((40.0, 120.0, 400.0)) if draw.random() < fault_rate / 3 else draw.choice(_TIMES_S)
        made.append(Step(actor, draw.randrange(1 << 16), fault, after_s))
    return Schedule(draw.randint(1, 5), draw.random() < 0.5, tuple(made))
