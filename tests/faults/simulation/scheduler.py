"""What does a scheduler do? Airflow's loop around a real FateExecutor, which pauses before each transaction."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from airflow.utils.state import TaskInstanceState as State
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from airflow_fate.executor import FateExecutor, fate_executor
from airflow_fate.executor.accounts.accounts import Accounts
from airflow_fate.executor.heartbeat import handover
from airflow_fate.executor.heartbeat.budget import Budget
from airflow_fate.executor.heartbeat.edges import Edges
from airflow_fate.executor.heartbeat.notifier import EndNotifier
from airflow_fate.executor.planning.decider import Decider
from airflow_fate.executor.runs.convert import RunShape, TaskShape
from airflow_fate.executor.runs.reader import RunKey
from airflow_fate.executor.settings import read_settings
from airflow_fate.messages import SEAL_KEY, read_spec
from airflow_fate.planner.baselines.round_robin import RoundRobin
from airflow_fate.planner.plan import Plan, PlanConfig, Problem
from airflow_fate.state.history import History as TaskHistories
from airflow_fate.state.holds import Holds
from airflow_fate.state.ledger import Ledger
from airflow_fate.state.presence import Presence
from airflow_fate.state.speeds import LearnedSpeeds
from airflow_fate.state.store import Store
from tests.faults.simulation import database
from tests.faults.simulation.history import Given, Noted
from tests.faults.simulation.process import Crash, Process
from tests.faults.simulation.schedule import Fault
from tests.unit.executor.builders import SECRET, connections
from tests.unit.executor.scheduler import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_fate.cluster import ClusterState
    from tests.faults.simulation.world import World

PARALLELISM = 256
"""Airflow counts a task whose end was never reported as running: slots must not run out for that."""
STALL_S = 45.0
AWAY = 6
"""Transactions that fail in an outage of the database."""
ADOPT_EVERY_S = 20.0
_VALUES = {name: option["default"] for name, option in OPTIONS.items()}
_VALUES |= {"gateway_secret": SECRET, "solver": "off", "policy": "round_robin", "preload": ""}
SETTINGS = read_settings(_VALUES.__getitem__, 600.0)


class Scheduler:
    """One of two schedulers, which is started anew when it has died.

    :ivar offset_s: by how much its clock is ahead.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.offset_s = 0.0
        self.pick = 0
        self.inner: Inner | None = None
        self._process: Process | None = None
        self._passes = 0
        """Transactions for which it does not pause."""
        self._fails = 0

    def now(self) -> float:
        """Unix seconds on its own clock."""
        return self.world.now() + self.offset_s

    def step(self, pick: int = 0, fault: Fault = Fault.NONE) -> None:
        """Go on for a few transactions, of which the first meets the fault."""
        if self._process is None or self._process.is_over:
            self.world.history.add(Noted(f"{self.name} starts"))
            self._process = Process(self.name, self._live)
            self._fails = 0
        self.pick, self._passes = pick, pick % 8
        if fault is not Fault.NONE:
            self.world.history.add(Noted(f"{self.name} {fault}"))
        with _current_is(self):
            self._process.resume(fault)

    def loop(self) -> None:
        """Go on to the end of the loop, without any fault."""
        self._fails = 0
        self.step(7)
        while self._process is not None and not (self._process.is_at_rest or self._process.is_over):
            self.step(7)

    def kill(self) -> None:
        if self._process is not None:
            with _current_is(self):
                self._process.kill()
            self._process = None

    # Its life

    def _live(self) -> None:
        airflow, world = self.world.airflow, self.world
        self.inner = Inner(self)
        executor = FateExecutor(PARALLELISM)
        # Tokens of Airflow's own API are not looked at.
        executor.__dict__["jwt_generator"] = None
        job = airflow.new_job()
        executor.start()
        adopted_s = -ADOPT_EVERY_S
        while True:
            self._meet(at_rest=True)
            # A scheduler that was taken for dead writes that it runs: Airflow merges its job as it knows it.
            job.heard_s, job.is_running = world.clock_s, True
            with self._transaction():
                airflow.schedule()
                airflow.queue(executor, job)
            executor.heartbeat()
            with self._transaction():
                airflow.take_events(executor, job)
            if world.clock_s - adopted_s >= ADOPT_EVERY_S:
                adopted_s = world.clock_s
                with self._transaction():
                    airflow.adopt(executor, job)
                    airflow.purge(executor, job)

    def _meet(self, at_rest: bool = False) -> Fault:
        if self._fails:
            self._fails -= 1
            return Fault.AWAY
        if self._passes and not at_rest:
            self._passes -= 1
            return Fault.NONE
        assert self._process is not None
        fault = self._process.pause(at_rest)
        if fault is Fault.AWAY:
            self._fails = AWAY
        return fault

    def _stall(self) -> None:
        self.world.pass_time(STALL_S)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One of Airflow's own: what is wrong with the database ends its process, or is tried again."""
        fault = self._meet()
        with database.committing(
            fault if fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.STALLED) else Fault.NONE, self._stall
        ):
            try:
                yield
            except OperationalError:
                # Airflow rolls back and ends.
                raise Crash from None

    # What its executor reaches

    @contextmanager
    def session(self) -> Iterator[Any]:
        """A transaction on Airflow's tables."""
        with database.committing(self._meet(), self._stall):
            yield None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A transaction on FATE's tables."""
        fault = self._meet()
        try:
            with database.transaction(self.world.engine, fault, self._stall) as connection:
                yield connection
        finally:
            self.world.note_bookings()

    def edges(self) -> Edges:
        def monotonic() -> float:
            return self.world.clock_s

        store = Store(self.connect, monotonic)
        decider = IdleDecider("round_robin", None, clock=monotonic, find=lambda name: Gambler(self))
        return Edges(
            store=store,
            ledger=Ledger(store.connect, self.now, sleep=lambda seconds: None),
            history=TaskHistories(store.connect),
            speeds=LearnedSpeeds(store.connect),
            presence=Presence(store.connect),
            accounts=IdleAccounts((), SETTINGS.prices, Holds(self.connect), self.now),
            source=self.world.gateways,
            decider=decider,
            notifier=Notifier(self),
            read_runs=self._read_runs,
            ended_tries=self._ended_tries,
            give_back=self._give_back,
            budget=Budget(clock=monotonic),
            clock=self.now,
        )

    def _ended_tries(self, ti_ids: Any) -> Mapping[str, str]:
        with self.session():
            return self.world.airflow.ended_tries(ti_ids)

    def _give_back(self, ti_ids: Any) -> None:
        with self.session():
            self.world.airflow.give_back(ti_ids)

    def _read_runs(self, wanted: Mapping[RunKey, str]) -> dict[RunKey, RunShape]:
        shapes = {}
        for ti in self.world.airflow.instances:
            if (ti.dag_id, ti.run_id) in wanted:
                tasks = {ti.name: TaskShape(ti.name, read_spec(dict(ti.spec)))}
                shapes[ti.dag_id, ti.run_id] = RunShape(ti.dag_id, ti.run_id, 0.0, tasks)
        return shapes


class Inner:
    """An inner executor that sends tasks to workers by way of a broker."""

    is_local = is_production = pre_assigns_external_executor_id = False
    supports_callbacks = supports_connection_test = supports_ad_hoc_ti_run = False
    sentry_integration = ""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._world = scheduler.world
        self._keys: set[Any] = set()
        self._events: dict[Any, Any] = {}
        self.queued_callbacks: dict[Any, Any] = {}
        self.queued_connection_tests: dict[Any, Any] = {}
        self._task_event_logs: deque[Any] = deque()

    def start(self) -> None: ...

    def heartbeat(self) -> None: ...

    def queue_workload(self, workload: Any, session: Any) -> None:
        ti_id = str(workload.ti.id)
        self._keys.add(workload.ti.key)
        self._world.history.add(Given(ti_id, self._scheduler.name))
        self._world.send_to_worker(ti_id, workload.ti.key, workload.ti.context_carrier[SEAL_KEY])

    def report(self, key: Any, state: State) -> None:
        """A worker is done with something."""
        if key in self._keys:
            self._events[key] = (state, None)

    def get_event_buffer(self) -> dict[Any, Any]:
        events, self._events = self._events, {}
        return events

    def has_task(self, ti: Any) -> bool:
        return False

    def revoke_task(self, *, ti: Any) -> None:
        self._keys.discard(ti.key)

    def try_adopt_task_instances(self, tis: Any) -> list[Any]:
        adopted = [ti for ti in tis if self._world.adopts and str(ti.id) in self._world.sent]
        self._keys.update(ti.key for ti in adopted)
        return [ti for ti in tis if ti not in adopted]


class Notifier(EndNotifier):
    """Its posts are messages of the world's network."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._world = scheduler.world

    def start(self) -> None: ...

    def ended(self, urls: Iterable[str], reservation_id: str, secret: str, why: str = "") -> None:
        for url in urls:
            self._world.tell_end(url.removeprefix("http://"), reservation_id)


class Gambler:
    """Round robin; now and then it believes that nobody holds anything. The ledger must know better."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._policy = RoundRobin()

    def __call__(self, problem: Problem, config: PlanConfig) -> Plan:
        if self._scheduler.pick % 3 == 1:
            problem = replace(problem, state=_all_free(problem.state, problem.now))
        return self._policy(problem, config)


def _all_free(state: ClusterState, now: float) -> ClusterState:
    places = {name: replace(place, running=(), resident={}, prefill_free_s=now) for name, place in state.places.items()}
    return replace(state, places=places)


class IdleDecider(Decider):
    """Loads nothing."""

    def start(self) -> None: ...


class IdleAccounts(Accounts):
    """Has no thread."""

    def start(self) -> None: ...


_current: list[Scheduler] = []


@contextmanager
def _current_is(scheduler: Scheduler) -> Iterator[None]:
    _current.append(scheduler)
    try:
        yield
    finally:
        _current.pop()


@contextmanager
def executors_are_simulated() -> Iterator[None]:
    """Inside, an executor reaches what its simulated scheduler has."""
    clocks = SimpleNamespace(time=lambda: _current[-1].now(), monotonic=lambda: _current[-1].world.clock_s)
    with (
        patch.multiple(
            fate_executor,
            configured=lambda: SETTINGS,
            load_inner=lambda name, parallelism: _current[-1].inner,
            Connections=_known_connections,
            edges_of=lambda settings: _current[-1].edges(),
            session_scope=nullcontext,
            close_pooled_connections=lambda: None,
            time=clocks,
        ),
        patch.multiple(
            handover, session_scope=lambda: _current[-1].session(), new_id=lambda: _current[-1].world.new_reservation()
        ),
        patch.object(FateExecutor, "log", logging.getLogger(__name__)),
        patch("airflow.state.get_state_backend", lambda: _current[-1].world.store),
        patch.dict("os.environ", AIRFLOW__API_AUTH__JWT_SECRET="j" * 64),
    ):
        yield


def _known_connections() -> Any:
    known = connections()
    known.start = lambda: None  # type: ignore[method-assign]
    return known
