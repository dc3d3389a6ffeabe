"""What does Airflow do with tasks? Its scheduler's loop and its API for tasks, as far as FATE can tell.

States, tries and identities change as in Airflow 3.3: a try has an id of its own, which a deferral keeps, and so does
what is given back; orphans and retries get new ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.executors.workloads import ExecuteTask
from airflow.executors.workloads.base import BundleInfo
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState as State

from tests.faults.simulation.history import Noted, Queued

if TYPE_CHECKING:
    from airflow_fate.executor import FateExecutor
    from tests.faults.simulation.history import History

DAG = "dag"
HEALTH_S = 30.0
"""A scheduler that is silent for so long is taken for dead."""
ZOMBIE_S = 300.0
QUEUED_TIMEOUT_S = 600.0
RETRIES = 20
ACTIVE = (State.QUEUED, State.RUNNING, State.RESTARTING)


@dataclass
class Instance:
    """A task instance: one task of a run of its own."""

    name: str
    spec: Mapping[str, Any]
    defers: bool
    id: UUID
    state: State | None = None
    try_number: int = 0
    queued_by: int | None = None
    queued_s: float = 0.0
    heard_s: float = 0.0
    has_deferred: bool = False

    dag_id = DAG
    map_index = -1

    @property
    def run_id(self) -> str:
        return self.name

    task_id = run_id

    @property
    def key(self) -> TaskInstanceKey:
        return TaskInstanceKey(DAG, self.name, self.name, self.try_number, -1)

    @property
    def executor_config(self) -> Mapping[str, Any]:
        return self.spec


@dataclass
class Job:
    """A scheduler, as others see it."""

    id: int
    heard_s: float
    is_running: bool = True


@dataclass
class Airflow:
    """Airflow's tables.

    :param clock: seconds; of the database, which does not jump.
    """

    history: History
    clock: Callable[[], float]
    instances: list[Instance] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    _locked: set[str] = field(default_factory=set)
    """Rows that a scheduler who adopts has locked: the others leave them."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def new_id(self) -> UUID:
        return UUID(int=next(self._numbers))

    def add(self, name: str, spec: Mapping[str, Any], defers: bool) -> None:
        self.instances.append(Instance(name, spec, defers, self.new_id()))

    def new_job(self) -> Job:
        job = Job(next(self._numbers), self.clock())
        self.jobs[job.id] = job
        return job

    def find(self, ti_id: str) -> Instance | None:
        return next((each for each in self.instances if str(each.id) == ti_id), None)

    # A scheduler's loop

    def schedule(self) -> None:
        for ti in self.instances:
            if ti.state in (None, State.UP_FOR_RETRY):
                ti.state = State.SCHEDULED
                ti.try_number += 1

    def queue(self, executor: FateExecutor, job: Job) -> None:
        for ti in self.instances:
            if ti.state is not State.SCHEDULED or executor.slots_available <= 0:
                continue
            ti.state, ti.queued_by, ti.queued_s = State.QUEUED, job.id, self.clock()
            self.history.add(Queued(str(ti.id), f"job {job.id}"))
            executor.queue_workload(_workload(ti), _as_ti(None))

    def take_events(self, executor: FateExecutor, job: Job) -> None:
        for key, (state, _) in executor.get_event_buffer().items():
            ti = next((each for each in self.instances if each.key == key), None)
            if ti is None or ti.state not in (State.SCHEDULED, *ACTIVE):
                continue
            resumes = ti.state is State.SCHEDULED and state is State.SUCCESS and ti.has_deferred
            if ti.queued_by == job.id and not executor.has_task(_as_ti(ti)) and not resumes:
                self._fail(ti, "its executor says that it has ended")

    def adopt(self, executor: FateExecutor, job: Job) -> None:
        now = self.clock()
        for other in self.jobs.values():
            if other.heard_s < now - HEALTH_S:
                other.is_running = False
        orphans = [
            ti
            for ti in self.instances
            if ti.state in ACTIVE
            and ti.queued_by is not None
            and not self.jobs[ti.queued_by].is_running
            and str(ti.id) not in self._locked
        ]
        locked = {str(ti.id) for ti in orphans}
        self._locked |= locked
        try:
            # It may pause here, and others go on meanwhile.
            refused = executor.try_adopt_task_instances([_as_ti(ti) for ti in orphans]) if orphans else []
        finally:
            self._locked -= locked
        for ti in orphans:
            if any(each is ti for each in refused):
                self.history.add(Noted(f"job {job.id} resets {ti.name}"))
                ti.id, ti.state, ti.queued_by, ti.has_deferred = self.new_id(), None, None, False
            else:
                self.history.add(Noted(f"job {job.id} adopts {ti.name}"))
                ti.queued_by = job.id

    def purge(self, executor: FateExecutor, job: Job) -> None:
        """Fail what is silent, and queue anew what is stuck."""
        now = self.clock()
        for ti in self.instances:
            if ti.queued_by != job.id:
                continue
            if ti.state is State.RUNNING and ti.heard_s < now - ZOMBIE_S:
                executor.change_state(ti.key, State.FAILED, remove_running=True)
                self._fail(ti, "it is silent")
            elif ti.state is State.QUEUED and ti.queued_s < now - QUEUED_TIMEOUT_S:
                executor.revoke_task(ti=_as_ti(ti))
                self.history.add(Noted(f"{ti.name} is stuck in queued"))
                ti.state, ti.queued_by = State.SCHEDULED, None

    # What FATE asks

    def ended_tries(self, ti_ids: Sequence[str]) -> Mapping[str, str]:
        states = {str(ti.id): ti.state for ti in self.instances}
        return {ti_id: str(states.get(ti_id) or "replaced") for ti_id in ti_ids if states.get(ti_id) not in ACTIVE}

    def give_back(self, ti_ids: Sequence[str]) -> None:
        for ti_id in ti_ids:
            if (ti := self.find(ti_id)) and ti.state is State.QUEUED:
                ti.state, ti.queued_by = State.SCHEDULED, None

    # What a task's process asks

    def start(self, ti_id: str) -> Instance | None:
        """The instance, if it may run: nobody else runs it."""
        ti = self.find(ti_id)
        if ti is None or ti.state is not State.QUEUED:
            return None
        ti.state, ti.heard_s = State.RUNNING, self.clock()
        return ti

    def hear(self, ti_id: str) -> bool:
        """A heartbeat; False where the task may not go on."""
        ti = self.find(ti_id)
        if ti is None or ti.state is not State.RUNNING:
            return False
        ti.heard_s = self.clock()
        return True

    def finish(self, ti_id: str, state: State, why: str = "") -> None:
        ti = self.find(ti_id)
        if ti is None or ti.state is not State.RUNNING:
            return
        if state is State.FAILED:
            self._fail(ti, why)
            return
        ti.state = state
        ti.has_deferred = ti.has_deferred or state is State.DEFERRED
        self.history.add(Noted(f"{ti.name} is {state}"))

    def trigger(self) -> None:
        """What deferred tasks wait for has come."""
        for ti in self.instances:
            if ti.state is State.DEFERRED:
                ti.state = State.SCHEDULED

    def _fail(self, ti: Instance, why: str) -> None:
        self.history.add(Noted(f"{ti.name}, try {ti.try_number}, has failed: {why}"))
        ti.queued_by, ti.has_deferred = None, False
        if ti.try_number <= RETRIES:
            ti.id, ti.state = self.new_id(), State.UP_FOR_RETRY
        else:
            ti.state = State.FAILED


def _as_ti(ti: Instance | None) -> Any:
    """The product wants Airflow's own class."""
    return ti


def _workload(ti: Instance) -> ExecuteTask:
    named = {"id": ti.id, "task_id": ti.name, "dag_id": DAG, "run_id": ti.name, "try_number": ti.try_number}
    fixed = {"dag_version_id": UUID(int=0), "pool_slots": 1, "priority_weight": 1, "queue": "q"}
    dto = TaskInstanceDTO.model_validate({**named, **fixed, "executor_config": dict(ti.spec)})
    bundle = BundleInfo(name="b")
    return ExecuteTask(ti=dto, token="", dag_rel_path=Path("dag.py"), bundle_info=bundle, log_path="")
