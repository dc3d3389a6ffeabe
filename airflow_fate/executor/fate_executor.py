"""How does Airflow ask? FateExecutor: an inner executor runs the tasks, FATE decides when and where the LLM tasks run.

Here stands what Airflow calls. What a heartbeat does about the LLM tasks stands in ``heartbeat``; who decides about
them, in ``planning``. A heartbeat never raises: Airflow's scheduler has no guard around it.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.executors.base_executor import PARALLELISM, BaseExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.utils.state import TaskInstanceState

from airflow_fate.executor.assembly import assemble, edges_of
from airflow_fate.executor.database import close_pooled_connections, session_scope
from airflow_fate.executor.frontier import Adopted, Frontier, Queued, Revoked
from airflow_fate.executor.inner import load_inner
from airflow_fate.executor.runs.connections import Connections, Elsewhere
from airflow_fate.executor.runs.convert import stage_id, workflow_id
from airflow_fate.executor.settings import configured
from airflow_fate.executor.workloads import Workloads
from airflow_fate.messages import SpecError, read_spec
from airflow_fate.workflow import StageRef

if TYPE_CHECKING:
    from airflow.executors.base_executor import EventBufferValueType
    from airflow.executors.workloads import ExecutorWorkload
    from airflow.executors.workloads.types import WorkloadKey
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

    from airflow_fate.executor.heartbeat.heartbeat import Heartbeat
    from airflow_fate.executor.runs.connections import Verdict
    from airflow_fate.messages import StageSpec

WARN_EVERY_S = 60.0
KEPT_LOGS = 1000
REPORTED_WITHIN_S = 10.0
"""An inner executor reports a task that has left within this time."""


class FateExecutor(BaseExecutor):
    """Binds LLM tasks to GPU pods; everything else goes straight to the inner executor.

    :param parallelism: tasks that run at once in the inner executor; held tasks don't count.
    :raises SettingsError: when the ``[fate]`` section can't be used.
    """

    supports_multi_team = False
    # Both are asked of the class, before there are settings. With LocalExecutor inside, the scheduler's machine has the
    # logs, and `airflow standalone` keeps an executor only if it is a local one.
    serve_logs = True
    is_local = True

    def __init__(self, parallelism: int = PARALLELISM, team_name: str | None = None) -> None:
        super().__init__(parallelism=parallelism, team_name=team_name)
        self.settings = configured()
        self.inner = load_inner(self.settings.inner_executor, parallelism)
        for name in (
            "is_local",
            "is_production",
            "pre_assigns_external_executor_id",
            "supports_callbacks",
            "supports_connection_test",
            "supports_ad_hoc_ti_run",
            "sentry_integration",
        ):
            setattr(self, name, getattr(self.inner, name))
        self.frontier = Frontier(self.settings.hold_limit_s)
        self._workloads = Workloads(lambda ti_id: ExecuteTask.generate_token(ti_id, self.jwt_generator), self._log_wait)
        self._unreported: dict[WorkloadKey, float] = {}
        self._connections = Connections()
        self._heartbeat: Heartbeat | None = None
        self._warned: dict[str, float] = {}
        self._kept_logs: deque[Any] = deque(maxlen=KEPT_LOGS)

    # Life

    def start(self) -> None:
        # LocalExecutor forks its workers here: what is imported before, no task imports again.
        for name in self.settings.preload:
            self._guard(f"preload of {name}", partial(importlib.import_module, name))
        # A worker that inherits a connection keeps the locks of a killed scheduler alive in the database.
        self._guard("closing of pooled connections", close_pooled_connections)
        self.inner.job_id = self.job_id
        self.inner.callback_sink = self.callback_sink
        self.inner.start()
        self._connections.start()
        self._heartbeat = assemble(
            self.settings, self.frontier, self._workloads, self._connections, edges_of(self.settings)
        )
        self._guard("start", self._heartbeat.start)

    def end(self) -> None:
        self._stop()
        self.inner.end()

    def terminate(self) -> None:
        self._stop()
        self.inner.terminate()

    def _stop(self) -> None:
        self._connections.stop()
        if self._heartbeat:
            self._heartbeat.stop()

    # Work comes in

    def queue_workload(self, workload: ExecutorWorkload, session: Session) -> None:
        """File a workload. This runs inside the scheduler's open transaction: nothing is planned or written here."""
        if not isinstance(workload, ExecuteTask):
            self.inner.queue_workload(workload, session)
            return
        ti = workload.ti
        if _is_of_the_fleet(ti.executor_config, self._connections.judge):
            ref = StageRef(workflow_id(ti.dag_id, ti.run_id), stage_id(ti.task_id, ti.map_index))
            self._workloads.hold(workload)
            for instruction in self.frontier.handle(Queued(str(ti.id), ti.key, ref, time.time())):
                if self._heartbeat:
                    self._heartbeat.later(instruction)
        else:
            self._workloads.add_plain(workload)

    def heartbeat(self) -> None:
        """One cycle. Never raises, never waits for the network, plans within its budget."""
        if self._heartbeat:
            self._guard("cycle", partial(self._heartbeat.beat, self._workloads.held))
        self._guard("feeding the inner executor", self._feed)
        self._guard("the inner executor's heartbeat", self.inner.heartbeat)
        self._merge_events()
        self._emit_metrics(self.slots_available, len(self.running), len(self.frontier.held()))

    def _log_wait(self, workload: ExecuteTask, text: str) -> None:
        """Say in the task's event log why it waits."""
        self.log_task_event(event="fate: waiting", extra=text, ti_key=workload.ti.key)
        # Airflow 3.3.2 saves these through a generator, in which an object that nobody else holds is collected
        # before it is written.
        self._kept_logs.append(self._task_event_logs[-1])
        self.log.info("%s waits: %s", workload.ti.key, text)

    def _feed(self) -> None:
        """Give the inner executor as many tasks as it has idle workers."""
        ready = [workload for workload in self._workloads.leaving() if self._has_left(workload.key)]
        room = max(0, self.parallelism - len(self.running))
        if not ready or not room:
            return
        with session_scope() as session:
            for workload in ready[:room]:
                # One that can't be given over stays where it is, and is tried again with the next heartbeat.
                self._guard("giving a task to the inner executor", partial(self._give, workload, session))

    def _has_left(self, key: WorkloadKey) -> bool:
        """Whether the part of the task before its deferral, which has the same key, has been reported as ended.

        Its trigger may fire before that. Were the next part running when the report comes, Airflow would take the
        report for the next part's and fail the task. What was adopted is never reported, so the wait has a bound.
        """
        if key not in self.running:
            self._unreported.pop(key, None)
            return True
        return time.monotonic() - self._unreported.setdefault(key, time.monotonic()) > REPORTED_WITHIN_S

    def _give(self, workload: ExecuteTask, session: Session) -> None:
        self.inner.queue_workload(workload, session)
        self._workloads.left(workload)
        self.running.add(workload.key)
        self._unreported.pop(workload.key, None)

    def _merge_events(self) -> None:
        events: dict[WorkloadKey, EventBufferValueType] = self.inner.get_event_buffer()
        for key, (state, info) in events.items():
            if state in (TaskInstanceState.SUCCESS, TaskInstanceState.FAILED):
                self.running.discard(key)
            self.event_buffer[key] = (state, info)
        self._task_event_logs.extend(self.inner._task_event_logs)
        self.inner._task_event_logs.clear()

    # What Airflow asks about tasks

    def has_task(self, task_instance: TaskInstance) -> bool:
        return (
            self._workloads.has(str(task_instance.id), task_instance.key)
            or super().has_task(task_instance)
            or self.inner.has_task(task_instance)
        )

    def revoke_task(self, *, ti: TaskInstance) -> None:
        ti_id = str(ti.id)
        self._workloads.revoke(ti_id)
        self.running.discard(ti.key)
        for instruction in self.frontier.handle(Revoked(ti_id)):
            if self._heartbeat:
                self._heartbeat.later(instruction)
        try:
            self.inner.revoke_task(ti=ti)
        except NotImplementedError:
            self.log.debug("%s can't revoke %s", self.inner, ti)

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Adopt what the inner executor still runs.

        A QUEUED LLM task without a live reservation was only held by the scheduler that died: it never reached the
        inner executor, which must not wait for it. A task without a spec may well lie in the inner executor's queue.
        """
        live = self._heartbeat.live_reservations() if self._heartbeat else {}
        # Connections are looked up here and now: there is no next time.
        never_sent = [
            ti
            for ti in tis
            if ti.state == TaskInstanceState.QUEUED
            and str(ti.id) not in live
            and _is_of_the_fleet(ti.executor_config, self._connections.judge_now)
        ]
        sent = [ti for ti in tis if ti not in never_sent]
        refused = list(self.inner.try_adopt_task_instances(sent)) if sent else []
        now = time.time()
        for ti in sent:
            if ti in refused:
                continue
            self.running.add(ti.key)
            if reservation := live.get(str(ti.id)):
                ref = StageRef(workflow_id(ti.dag_id, ti.run_id), stage_id(ti.task_id, ti.map_index))
                self.frontier.handle(Adopted(str(ti.id), ti.key, ref, reservation, now))
        return [*never_sent, *refused]

    @property
    def slots_occupied(self) -> int:
        # What the inner executor has of tasks is in ``running`` already.
        others = len(self.inner.queued_callbacks) + len(self.inner.queued_connection_tests)
        return len(self.running) + self._workloads.leaving_count + others

    @property
    def slots_available(self) -> int:
        room = self.settings.max_frontier - len(self.frontier.held())
        return max(0, min(self.parallelism - self.slots_occupied, room))

    def get_task_log(self, ti: TaskInstance, try_number: int) -> tuple[list[str], list[str]]:
        return self.inner.get_task_log(ti, try_number)

    def debug_dump(self) -> None:
        for entry in (*self.frontier.held(), *self.frontier.running()):
            self.log.info("%s: %s", entry.phase, entry)
            for line in self.frontier.story(entry.ti_id):
                self.log.info("    %s", line)
        self.inner.debug_dump()

    def _guard(self, what: str, work: Callable[[], Any]) -> None:
        """Run a part of the heartbeat; a failure is said at most once a minute and never reaches the scheduler."""
        try:
            work()
        except Exception as error:
            now = time.monotonic()
            if now - self._warned.get(what, -WARN_EVERY_S) >= WARN_EVERY_S:
                self._warned[what] = now
                self.log.exception("FATE: %s failed: %s", what, error)


def _is_of_the_fleet(executor_config: Any, judge: Callable[[StageSpec], Verdict]) -> bool:
    """Whether a task is held, by what ``judge`` says of its connection."""
    try:
        spec = read_spec(executor_config)
    except SpecError:
        # It is held until its reason has been told.
        return True
    return spec is not None and not isinstance(judge(spec), Elsewhere)
