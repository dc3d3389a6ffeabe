"""What is there, and what happens in a step? Schedulers, workers, gateways and the messages between them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow.utils.state import TaskInstanceState as State
from sqlalchemy import Engine

from airflow_fate.messages import BINDING_KEY, STATS_KEY, TokenError, unsealed
from tests.faults.simulation import database
from tests.faults.simulation.airflow import Airflow
from tests.faults.simulation.fleet import CAPACITIES, Gateways
from tests.faults.simulation.history import Booked, Finished, History, Noted
from tests.faults.simulation.process import Crash, Process
from tests.faults.simulation.schedule import Actor, Fault, Schedule, Step
from tests.faults.simulation.scheduler import Scheduler, executors_are_simulated
from tests.unit.executor.scheduler import StoreBackend, facts

BEGIN_S = 4_000_000_000.0
"""Unix seconds; so late that no token has expired by this machine's own clock."""
PATIENCE_S = 2000.0
"""After the last fault all ends within this time: what is stuck or silent is noticed after ten minutes at most."""
SPECS = {
    "one": {"fate": {"model": "m", "prompt_tokens": 10, "version": 1}},
    "two": {"fate": {"model": "m", "prompt_tokens": 10, "prompts": 2, "version": 1}},
    "group": {"fate": {"model": "big", "prompt_tokens": 10, "version": 1}},
}
LATE_S = 20.0
"""A request that is late comes when others have been served in its place."""
GONE = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)
MISSED = (Fault.REFUSED, Fault.AWAY)


@dataclass(frozen=True)
class Message:
    """Something on its way.

    :param may_fail: whether it may get lost or doubled.
    :param due_s: it does not come before.
    """

    text: str
    deliver: Callable[[], None]
    may_fail: bool
    due_s: float


class World:
    """All that is simulated.

    :param engine: FATE's tables, without rows.
    """

    def __init__(self, schedule: Schedule, engine: Engine) -> None:
        self.engine = engine
        self.adopts = schedule.adopts
        self.clock_s = 0.0
        self.history = History()
        self.airflow = Airflow(self.history, lambda: self.clock_s)
        self.gateways = Gateways(self.history)
        self.store = StoreBackend()
        self.messages: list[Message] = []
        self.workers: list[Process] = []
        self.sent: set[str] = set()
        self.schedulers = [Scheduler(name, self) for name in (Actor.SCHEDULER_A, Actor.SCHEDULER_B)]
        self._reservations = itertools.count(1)
        self._booked: Booked | None = None
        for number, kind in zip(range(schedule.tasks), itertools.cycle(("one", "two", "one", "group", "one"))):
            self.airflow.add(f"{kind}-{number}", SPECS[kind], defers=number % 3 == 2)

    def now(self) -> float:
        """Unix seconds."""
        return BEGIN_S + self.clock_s

    def pass_time(self, seconds: float) -> None:
        self.clock_s += seconds
        self.history.now_s = self.clock_s

    def new_reservation(self) -> str:
        return f"r{next(self._reservations):04}"

    def note_bookings(self) -> None:
        if (now := database.booked(self.engine)) != self._booked:
            self._booked = now
            self.history.add(now)

    # Steps

    def take(self, step: Step) -> None:
        self.pass_time(step.after_s)
        match step.actor:
            case Actor.SCHEDULER_A:
                self.schedulers[0].step(step.pick, step.fault)
            case Actor.SCHEDULER_B:
                self.schedulers[1].step(step.pick, step.fault)
            case Actor.WORKER:
                if self.workers:
                    self._go_on(self.workers[step.pick % len(self.workers)], step.fault)
            case Actor.NETWORK:
                if due := self._due:
                    self._deliver(due[step.pick % len(due)], step.fault)
            case Actor.OPERATOR:
                self._operate(step.pick)

    def settle(self) -> None:
        """All faults are over: let everything end."""
        self.history.add(Noted("no more faults"))
        for gateway in self.gateways.of.values():
            gateway.is_up, gateway.is_draining, gateway.max_seqs = True, False, CAPACITIES[gateway.device]
        self.gateways.changed()
        for scheduler in self.schedulers:
            scheduler.offset_s = 0.0
        until_s = self.clock_s + PATIENCE_S
        while self.clock_s < until_s:
            before = len(self.history.events)
            for scheduler in self.schedulers:
                scheduler.loop()
            for message in self._due:
                self._deliver(message, Fault.NONE)
            for worker in list(self.workers):
                self._go_on(worker, Fault.NONE)
            if self._is_done():
                break
            is_quiet = len(self.history.events) == before and not self.workers
            self.pass_time(20.0 if is_quiet else 1.5)
        self.history.add(Finished(self._unfinished()))

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
        for scheduler in self.schedulers:
            scheduler.kill()

    def _unfinished(self) -> dict[str, str]:
        ended = (State.SUCCESS, State.FAILED)
        return {ti.name: str(ti.state) for ti in self.airflow.instances if ti.state not in ended}

    def _is_done(self) -> bool:
        return not self._unfinished() and not (self._booked and self._booked.live)

    def _operate(self, pick: int) -> None:
        what, number = pick % 8, pick // 8
        gateway = list(self.gateways.of.values())[number % len(self.gateways.of)]
        scheduler = self.schedulers[number % 2]
        match what:
            case 0:
                gateway.restart()
            case 1:
                gateway.is_up = not gateway.is_up
                self.history.add(Noted(f"{gateway.device} {'comes' if gateway.is_up else 'goes'}"))
            case 2:
                gateway.is_draining = not gateway.is_draining
                self.history.add(Noted(f"{gateway.device} is draining: {gateway.is_draining}"))
            case 3:
                gateway.max_seqs = 1 + number % 2
                self.history.add(Noted(f"{gateway.device} now takes {gateway.max_seqs}"))
            case 4 | 5:
                scheduler.offset_s = (-3600.0, -60.0, 0.0, 60.0, 3600.0)[number // 2 % 5]
                self.history.add(Noted(f"the clock of {scheduler.name} jumps: it is {scheduler.offset_s:+.0f} s off"))
            case 6:
                self.history.add(Noted(f"{scheduler.name} is killed"))
                scheduler.kill()
            case _:
                if self.workers:
                    self._go_on(self.workers[number % len(self.workers)], Fault.CRASH_BEFORE)
        self.gateways.changed()

    # Messages

    def send_to_worker(self, ti_id: str, key: Any, seal_key: str) -> None:
        self.sent.add(ti_id)
        self._send(f"{ti_id} to a worker", partial(self._start_worker, ti_id, key, seal_key))

    def tell_end(self, device: str, reservation: str) -> None:
        gateway = self.gateways.of[device]
        self._send(f"the end of {reservation} to {device}", partial(gateway.end, reservation))

    def _report(self, key: Any, state: State) -> None:
        def deliver() -> None:
            for scheduler in self.schedulers:
                if scheduler.inner:
                    scheduler.inner.report(key, state)

        self._send(f"{key.task_id}: {state}", deliver)

    @property
    def _due(self) -> list[Message]:
        return [message for message in self.messages if message.due_s <= self.clock_s]

    def _send(self, text: str, deliver: Callable[[], None], may_fail: bool = True, late_s: float = 0.0) -> None:
        self.messages.append(Message(text, deliver, may_fail, self.clock_s + late_s))

    def _deliver(self, message: Message, fault: Fault) -> None:
        if fault is Fault.STALLED:
            return
        is_doubled = fault is Fault.DOUBLED and message.may_fail
        is_lost = fault not in (Fault.NONE, Fault.DOUBLED) and message.may_fail
        if not is_doubled:
            self.messages.remove(message)
        if is_lost or is_doubled:
            self.history.add(Noted(f"a message is {'lost' if is_lost else 'doubled'}: {message.text}"))
        if not is_lost:
            message.deliver()

    # Workers

    def _start_worker(self, ti_id: str, key: Any, seal_key: str) -> None:
        worker = Process(ti_id, lambda: self._work(worker, ti_id, key, seal_key))
        self.workers.append(worker)
        self._go_on(worker, Fault.NONE)

    def _go_on(self, worker: Process, fault: Fault) -> None:
        worker.resume(fault)
        if worker.is_over:
            self.workers.remove(worker)

    def _work(self, worker: Process, ti_id: str, key: Any, seal_key: str) -> None:
        """A task's process, from its start to its end."""

        def meet(asks_airflow: bool = True) -> Fault:
            fault = worker.pause()
            if fault in GONE:
                self.history.add(Noted(f"the worker of {ti_id} dies"))
                raise Crash
            if asks_airflow and not self.airflow.hear(ti_id):
                raise Crash
            return fault

        ti = self.airflow.start(ti_id)
        if ti is None:
            return
        self.history.add(Noted(f"a worker starts {ti_id}"))
        meet()
        outcome = self._ask(ti_id, ti.name, seal_key, meet)
        meet()
        if outcome:
            self.airflow.finish(ti_id, State.FAILED, outcome)
        elif ti.defers and not ti.has_deferred:
            self.airflow.finish(ti_id, State.DEFERRED)
            self._send(f"the trigger of {ti.name}", self.airflow.trigger, may_fail=False)
        else:
            self.airflow.finish(ti_id, State.SUCCESS)
        self._report(key, State.FAILED if outcome else State.SUCCESS)

    def _ask(self, ti_id: str, name: str, seal_key: str, meet: Callable[[bool], Fault]) -> str:
        """Why the task fails; empty where it doesn't."""
        try:
            binding = unsealed(json.loads(self.store.values.get((name, BINDING_KEY), "null")), seal_key)
        except TokenError as error:
            return str(error)
        if binding.ti_id != ti_id:
            return "it has only the binding of an earlier try"
        if binding.error:
            return binding.error
        for share in binding.shares:
            gateway = self.gateways.of[share.device]
            # It may have been given up long ago, and not know it.
            fault = meet(False)

            def ask(gateway: Any = gateway, token: str = share.token) -> str:
                return str(gateway.ask(token, self.now()))

            if fault is Fault.STALLED:
                self._send(f"a request of {ti_id}", lambda ask=ask: ask() and None, late_s=LATE_S)  # type: ignore[misc]
            if fault in (*MISSED, Fault.STALLED):
                return f"{share.device} does not answer"
            if fault is Fault.DOUBLED:
                self._send(f"a request of {ti_id}", lambda ask=ask: ask() and None, late_s=LATE_S)  # type: ignore[misc]
            if refusal := ask():
                return refusal
            if fault is Fault.LOST:
                return "the answer gets lost"
        self.store.values[name, STATS_KEY] = json.dumps(
            [facts(binding.reservation, share.device) for share in binding.shares]
        )
        return ""


def play(schedule: Schedule, engine: Engine) -> History:
    """What happens by a schedule, and after it until all has ended.

    :param engine: as :func:`database.make_engine` makes it; its rows are deleted.
    """
    database.clear(engine)
    with executors_are_simulated():
        world = World(schedule, engine)
        try:
            for step in schedule.steps:
                world.take(step)
            world.settle()
        finally:
            world.end()
    return world.history
