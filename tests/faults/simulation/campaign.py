"""Which seeds break a promise? Plays the schedules of many seeds, on all cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from functools import cache

from sqlalchemy import Engine

from tests.faults.simulation import database
from tests.faults.simulation.checker import violations
from tests.faults.simulation.history import History
from tests.faults.simulation.schedule import Schedule, drawn
from tests.faults.simulation.shrink import shrunk
from tests.faults.simulation.world import play

STEPS = 150


@cache
def _engine() -> Engine:
    return database.make_engine()


def played(schedule: Schedule) -> tuple[History, list[str]]:
    """What happens by a schedule, and the promises that it breaks."""
    history = play(schedule, _engine())
    return history, violations(event for _, event in history.events)


def broken(seed: int, steps: int = STEPS) -> list[str]:
    """The promises that a seed's schedule breaks."""
    return played(drawn(seed, steps))[1]


def shortest(schedule: Schedule) -> Schedule:
    """The shortest schedule that breaks the same promise as this one."""
    promise = played(schedule)[1][0].partition(":")[0]
    return shrunk(schedule, lambda other: any(each.startswith(promise) for each in played(other)[1]))


def campaign(seeds: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """(seed, broken promises), in the order in which they are played."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), _be_silent) as pool:
        yield from pool.imap_unordered(_play, seeds, chunksize=20)


def _be_silent() -> None:
    # Faults make the product warn, thousands of times.
    logging.disable(logging.CRITICAL)


def _play(seed: int) -> tuple[int, list[str]]:
    return seed, broken(seed)
