"""What does a heartbeat reach outside of itself? FATE's tables, Airflow's, the fleet, the planner, clocks.

All of it is handed in, so that a test may hand in something else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_fate.executor.heartbeat.budget import Budget
from airflow_fate.executor.heartbeat.notifier import EndNotifier
from airflow_fate.executor.runs.reader import ReadRuns, RunReader, ended_tries, give_back
from airflow_fate.state.history import History
from airflow_fate.state.ledger import Ledger
from airflow_fate.state.presence import Presence
from airflow_fate.state.speeds import LearnedSpeeds

if TYPE_CHECKING:
    from airflow_fate.executor.accounts.accounts import Accounts
    from airflow_fate.executor.planning.decider import Decider
    from airflow_fate.state.source import StateSource
    from airflow_fate.state.store import Store


@dataclass(frozen=True)
class Edges:
    """What a heartbeat reaches.

    :param store: where FATE's tables lie; the next four are read and written there.
    :param source: knows the fleet.
    :param decider: makes plans.
    :param accounts: knows what was spent.
    :param notifier: tells gateways of ends.
    :param read_runs: as :meth:`RunReader.read`.
    :param ended_tries: as :func:`airflow_fate.executor.runs.reader.ended_tries`.
    :param give_back: as :func:`airflow_fate.executor.runs.reader.give_back`.
    :param budget: how long one heartbeat may take.
    :param clock: Unix seconds.
    """

    store: Store
    ledger: Ledger
    history: History
    speeds: LearnedSpeeds
    presence: Presence
    accounts: Accounts
    source: StateSource
    decider: Decider
    notifier: EndNotifier = field(default_factory=EndNotifier)
    read_runs: ReadRuns = field(default_factory=lambda: RunReader().read)
    ended_tries: Callable[[Sequence[str]], Mapping[str, str]] = ended_tries
    give_back: Callable[[Sequence[str]], None] = give_back
    budget: Budget = field(default_factory=Budget)
    clock: Callable[[], float] = time.time
