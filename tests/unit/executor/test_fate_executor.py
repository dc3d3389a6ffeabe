"""FateExecutor around an inner executor: what goes straight through, what is held, and that no heartbeat raises."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.executors.workloads.base import BundleInfo
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from airflow_fate.executor import FateExecutor, fate_executor
from airflow_fate.executor.frontier import Instruction, NotPlanned
from airflow_fate.executor.heartbeat.heartbeat import Outlet
from airflow_fate.executor.settings import SettingsError

PARALLELISM = 2
SPEC = {"fate": {"model": "m", "version": 1}}
SESSION: Any = None


class Inner(BaseExecutor):
    """Runs nothing; notes what it was given, and fails on demand."""

    is_local = True
    is_production = False
    serve_logs = True
    pre_assigns_external_executor_id = True
    supports_callbacks = True
    supports_connection_test = True
    supports_ad_hoc_ti_run = True
    sentry_integration = "inner.sentry"

    def __init__(self, parallelism: int) -> None:
        super().__init__(parallelism)
        self.life: list[str] = []
        self.given: list[Any] = []
        self.beats = 0
        self.broken = False
        self.adoptable: set[str] = set()

    def start(self) -> None:
        self.life.append("start")

    def end(self) -> None:
        self.life.append("end")

    def terminate(self) -> None:
        self.life.append("terminate")

    def queue_workload(self, workload: Any, session: Any) -> None:
        self.given.append(workload)

    def heartbeat(self) -> None:
        self.beats += 1
        if self.broken:
            raise RuntimeError("the inner executor is broken")

    def try_adopt_task_instances(self, tis: Any) -> Any:
        return [ti for ti in tis if ti.task_id not in self.adoptable]


class FakeHeartbeat:
    """Binds nothing by itself; a test uses its outlet."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.life: list[str] = []
        self.beats: list[set[str]] = []
        self.broken = False
        self.live: dict[str, str] = {}
        self.postponed: list[Instruction] = []

    def start(self) -> None:
        self.life.append("start")

    def stop(self) -> None:
        self.life.append("stop")

    def later(self, instruction: Instruction) -> None:
        self.postponed.append(instruction)

    def live_reservations(self) -> dict[str, str]:
        return self.live

    def beat(self, workloads: Mapping[str, Any]) -> None:
        self.beats.append(set(workloads))
        if self.broken:
            raise RuntimeError("the database is away")


class Ti:
    """A task instance as Airflow's scheduler knows it."""

    def __init__(self, task: ExecuteTask, state: TaskInstanceState = TaskInstanceState.RUNNING) -> None:
        self.id: UUID = task.ti.id
        self.key: TaskInstanceKey = task.ti.key
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", task.ti.task_id, -1
        self.state = state
        self.executor_config = task.ti.executor_config


def work(task_id: str, *, held: bool = False, priority: int = 1) -> ExecuteTask:
    ti = TaskInstanceDTO(
        id=uuid4(),
        task_id=task_id,
        dag_id="dag",
        run_id="run",
        try_number=1,
        dag_version_id=uuid4(),
        pool_slots=1,
        priority_weight=priority,
        executor_config=SPEC if held else {},
    )
    return ExecuteTask(ti=ti, token="stale", dag_rel_path=Path("dag.py"), bundle_info=BundleInfo(name="b"), log_path="")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AIRFLOW__FATE__INNER_EXECUTOR", f"{__name__}.Inner")
    monkeypatch.setenv("AIRFLOW__FATE__PRELOAD", "")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "j" * 64)
    monkeypatch.setattr(fate_executor, "session_scope", lambda: nullcontext(SESSION))
    monkeypatch.setattr(fate_executor, "close_pooled_connections", lambda: None)
    return monkeypatch


@pytest.fixture
def hearts(settings: pytest.MonkeyPatch) -> list[FakeHeartbeat]:
    """The heartbeat of each executor that has started."""
    hearts: list[FakeHeartbeat] = []

    def assemble(settings: Any, frontier: Any, outlet: Outlet, connections: Any, edges: Any) -> FakeHeartbeat:
        hearts.append(FakeHeartbeat(outlet))
        return hearts[-1]

    settings.setattr(fate_executor, "assemble", assemble)
    return hearts


@pytest.fixture
def executor(hearts: list[FakeHeartbeat]) -> Iterator[FateExecutor]:
    executor = FateExecutor(PARALLELISM)
    executor.start()
    yield executor
    executor.end()


@pytest.fixture
def heart(executor: FateExecutor, hearts: list[FakeHeartbeat]) -> FakeHeartbeat:
    return hearts[0]


def inner(executor: FateExecutor) -> Inner:
    assert isinstance(executor.inner, Inner)
    return executor.inner


def queue(executor: FateExecutor, *workloads: ExecuteTask) -> None:
    for workload in workloads:
        executor.queue_workload(workload, SESSION)


def given(executor: FateExecutor) -> list[str]:
    return [workload.ti.task_id for workload in inner(executor).given]


# Life


def test_what_the_inner_executor_can_do_is_mirrored(executor: FateExecutor) -> None:
    assert (executor.is_local, executor.is_production, executor.serve_logs) == (True, False, True)
    assert executor.pre_assigns_external_executor_id
    assert executor.supports_callbacks
    assert executor.supports_connection_test
    assert executor.supports_ad_hoc_ti_run
    assert executor.sentry_integration == "inner.sentry"


def test_a_bad_setting_stops_the_executor_at_its_construction(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("AIRFLOW__FATE__POLICY", "fastest")
    with pytest.raises(SettingsError, match=r"\[fate\] policy"):
        FateExecutor(PARALLELISM)


def test_the_inner_executor_starts_though_a_preload_fails(
    settings: pytest.MonkeyPatch, hearts: list[FakeHeartbeat]
) -> None:
    settings.setenv("AIRFLOW__FATE__PRELOAD", "no_such_module")
    executor = FateExecutor(PARALLELISM)
    executor.start()
    assert inner(executor).life == ["start"]
    assert hearts[0].life == ["start"]


@pytest.mark.parametrize("how", ["end", "terminate"])
def test_both_stop_together(hearts: list[FakeHeartbeat], how: str) -> None:
    executor = FateExecutor(PARALLELISM)
    executor.start()
    getattr(executor, how)()
    assert inner(executor).life == ["start", how]
    assert hearts[0].life == ["start", "stop"]


# Work without a spec


def test_plain_tasks_go_through_by_priority_as_many_as_run_at_once(executor: FateExecutor) -> None:
    queue(executor, work("low"), work("high", priority=9), work("middle", priority=5))
    assert given(executor) == []
    executor.heartbeat()
    assert given(executor) == ["high", "middle"]


def test_a_task_that_ended_makes_room_for_the_next(executor: FateExecutor) -> None:
    first, second, third = works = [work(name, priority=9 - at) for at, name in enumerate("abc")]
    queue(executor, *works)
    executor.heartbeat()
    inner(executor).event_buffer[first.key] = (TaskInstanceState.SUCCESS, None)
    executor.heartbeat()
    executor.heartbeat()
    assert given(executor) == ["a", "b", "c"]
    assert executor.running == {second.key, third.key}


def test_callbacks_are_the_inner_executors_business(executor: FateExecutor) -> None:
    callback: Any = object()
    executor.queue_workload(callback, SESSION)
    assert inner(executor).given == [callback]


def test_the_part_after_a_deferral_starts_when_the_part_before_has_been_reported(executor: FateExecutor) -> None:
    task = work("deferred")
    queue(executor, task)
    executor.heartbeat()
    queue(executor, task)
    executor.heartbeat()
    assert given(executor) == ["deferred"]
    inner(executor).event_buffer[task.key] = (TaskInstanceState.SUCCESS, None)
    executor.heartbeat()
    assert given(executor) == ["deferred"]
    assert executor.get_event_buffer() == {task.key: (TaskInstanceState.SUCCESS, None)}
    executor.heartbeat()
    assert given(executor) == ["deferred", "deferred"]


def test_a_part_that_is_never_reported_does_not_hold_the_next_for_ever(
    executor: FateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = work("adopted")
    executor.running.add(task.key)
    queue(executor, task)
    executor.heartbeat()
    assert given(executor) == []
    monkeypatch.setattr(fate_executor, "REPORTED_WITHIN_S", -1.0)
    executor.heartbeat()
    assert given(executor) == ["adopted"]


# Work with a spec


def test_a_task_with_a_spec_is_held_and_shown_to_the_heartbeat(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    task = work("llm", held=True)
    queue(executor, task)
    executor.heartbeat()
    assert given(executor) == []
    assert [entry.ti_id for entry in executor.frontier.held()] == [str(task.ti.id)]
    assert heart.beats == [{str(task.ti.id)}]


def test_a_bound_task_goes_before_plain_ones_with_a_fresh_token(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    task = work("llm", held=True)
    queue(executor, work("plain", priority=9), work("plainer", priority=8), task)
    heart.outlet.submit(str(task.ti.id))
    executor.heartbeat()
    assert given(executor) == ["llm", "plain"]
    assert inner(executor).given[0].token != "stale"


def test_a_try_that_is_queued_anew_before_it_has_left_leaves_once(
    executor: FateExecutor, heart: FakeHeartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits to be reported, runs elsewhere meanwhile, and is deferred there."""
    first = work("llm", held=True)
    executor.running.add(first.key)
    for task in (first, first.model_copy(deep=True)):
        queue(executor, task)
        heart.outlet.submit(str(task.ti.id))
        executor.heartbeat()
    monkeypatch.setattr(fate_executor, "REPORTED_WITHIN_S", -1.0)
    executor.heartbeat()
    assert len(inner(executor).given) == 1
    assert inner(executor).given[0] is not first


def test_a_task_that_went_back_to_the_scheduler_is_forgotten(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    task = work("llm", held=True)
    queue(executor, task)
    heart.outlet.hand_back(str(task.ti.id))
    executor.heartbeat()
    assert heart.beats == [set()]


def test_why_a_task_waits_is_said_in_its_event_log(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    task = work("llm", held=True)
    queue(executor, task)
    heart.outlet.say(str(task.ti.id), "gpu-0 is busy")
    (event,) = executor._task_event_logs
    assert (event.event, event.extra, event.task_id) == ("fate: waiting", "gpu-0 is busy", "llm")


# Heartbeat


def test_a_heartbeat_survives_a_failing_cycle_and_still_feeds(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    heart.broken = True
    queue(executor, work("plain"))
    executor.heartbeat()
    assert given(executor) == ["plain"]
    assert inner(executor).beats == 1


def test_a_failure_that_goes_on_is_said_once(
    executor: FateExecutor, heart: FakeHeartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    # Airflow's own logger writes past pytest's.
    executor._log = logging.getLogger(__name__)  # type: ignore[assignment]
    heart.broken = True
    executor.heartbeat()
    executor.heartbeat()
    assert caplog.text.count("FATE: cycle failed") == 1


def test_a_heartbeat_survives_a_failing_inner_executor_and_still_merges(executor: FateExecutor) -> None:
    task = work("plain")
    inner(executor).broken = True
    inner(executor).event_buffer[task.key] = (TaskInstanceState.SUCCESS, None)
    executor.heartbeat()
    assert executor.get_event_buffer() == {task.key: (TaskInstanceState.SUCCESS, None)}


def test_events_are_handed_on_once(executor: FateExecutor) -> None:
    task = work("plain")
    queue(executor, task)
    executor.heartbeat()
    inner(executor).event_buffer[task.key] = (TaskInstanceState.FAILED, "why")
    executor.heartbeat()
    assert executor.get_event_buffer() == {task.key: (TaskInstanceState.FAILED, "why")}
    executor.heartbeat()
    assert executor.get_event_buffer() == {}


def test_an_event_of_a_task_that_goes_on_keeps_its_place(executor: FateExecutor) -> None:
    task = work("plain")
    queue(executor, task)
    executor.heartbeat()
    inner(executor).event_buffer[task.key] = (TaskInstanceState.RUNNING, None)
    executor.heartbeat()
    assert executor.running == {task.key}


def test_event_logs_of_the_inner_executor_are_handed_on(executor: FateExecutor) -> None:
    inner(executor).log_task_event(event="seen", extra="x", ti_key=work("plain").key)
    executor.heartbeat()
    assert [event.event for event in executor._task_event_logs] == ["seen"]
    assert not inner(executor)._task_event_logs


# Slots


def test_held_tasks_take_no_slot(executor: FateExecutor) -> None:
    queue(executor, *(work(name, held=True) for name in "abc"))
    assert (executor.slots_occupied, executor.slots_available) == (0, PARALLELISM)


def test_waiting_and_running_tasks_take_slots(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    task = work("llm", held=True)
    queue(executor, work("a"), task)
    assert executor.slots_occupied == 1
    heart.outlet.submit(str(task.ti.id))
    assert (executor.slots_occupied, executor.slots_available) == (2, 0)
    executor.heartbeat()
    assert (executor.slots_occupied, executor.slots_available) == (2, 0)


def test_a_full_frontier_takes_no_more(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("AIRFLOW__FATE__MAX_FRONTIER", "1")
    executor = FateExecutor(PARALLELISM)
    queue(executor, work("llm", held=True))
    assert executor.slots_available == 0


# What Airflow asks about tasks


def test_a_task_is_known_while_held_waiting_and_running(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    task = work("llm", held=True)
    ti: Any = Ti(task)
    assert not executor.has_task(ti)
    queue(executor, task)
    assert executor.has_task(ti)
    heart.outlet.submit(str(task.ti.id))
    assert executor.has_task(ti)
    executor.heartbeat()
    assert executor.has_task(ti)


def test_a_revoked_held_task_is_forgotten(executor: FateExecutor) -> None:
    task = work("llm", held=True)
    ti: Any = Ti(task)
    queue(executor, task)
    executor.revoke_task(ti=ti)
    assert not executor.has_task(ti)
    assert executor.frontier.held() == ()


@pytest.mark.parametrize("held", [True, False], ids=["bound", "plain"])
def test_a_revoked_task_that_waits_for_a_worker_never_gets_one(
    executor: FateExecutor, heart: FakeHeartbeat, held: bool
) -> None:
    task = work("t", held=held)
    ti: Any = Ti(task)
    queue(executor, task)
    if held:
        heart.outlet.submit(str(task.ti.id))
    executor.revoke_task(ti=ti)
    executor.heartbeat()
    assert given(executor) == []


def test_a_revoked_running_task_frees_its_slot(executor: FateExecutor) -> None:
    task = work("plain")
    ti: Any = Ti(task)
    queue(executor, task)
    executor.heartbeat()
    executor.revoke_task(ti=ti)
    assert executor.slots_occupied == 0


# Adoption


def test_a_queued_task_without_a_reservation_goes_back_to_the_scheduler(executor: FateExecutor) -> None:
    ti: Any = Ti(work("llm", held=True), TaskInstanceState.QUEUED)
    inner(executor).adoptable = {"llm"}
    assert executor.try_adopt_task_instances([ti]) == [ti]
    assert executor.running == set()


def test_a_queued_task_without_a_spec_is_the_inner_executors_to_adopt(executor: FateExecutor) -> None:
    ti: Any = Ti(work("plain"), TaskInstanceState.QUEUED)
    inner(executor).adoptable = {"plain"}
    assert executor.try_adopt_task_instances([ti]) == []
    assert executor.running == {ti.key}


def test_a_running_task_is_adopted_with_its_reservation(executor: FateExecutor, heart: FakeHeartbeat) -> None:
    ti: Any = Ti(work("llm", held=True))
    inner(executor).adoptable = {"llm"}
    heart.live = {str(ti.id): "r1"}
    assert executor.try_adopt_task_instances([ti]) == []
    assert executor.running == {ti.key}
    assert [entry.reservation for entry in executor.frontier.running()] == ["r1"]


def test_a_queued_task_with_a_reservation_is_the_inner_executors_to_adopt(
    executor: FateExecutor, heart: FakeHeartbeat
) -> None:
    ti: Any = Ti(work("llm", held=True), TaskInstanceState.QUEUED)
    inner(executor).adoptable = {"llm"}
    heart.live = {str(ti.id): "r1"}
    assert executor.try_adopt_task_instances([ti]) == []


def test_what_the_inner_executor_refuses_is_not_adopted(executor: FateExecutor) -> None:
    ti: Any = Ti(work("plain"))
    assert executor.try_adopt_task_instances([ti]) == [ti]
    assert executor.running == set()
    assert len(executor.frontier) == 0


# A failure on the way to the inner executor


def test_a_task_that_cannot_be_given_over_is_tried_again_and_the_others_go_on(
    executor: FateExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(executor, work("first", priority=2), work("second"))
    give = inner(executor).queue_workload
    refused: list[ExecuteTask] = []

    def refuse_once(workload: ExecuteTask, session: object) -> None:
        if not refused:
            refused.append(workload)
            raise RuntimeError("away")
        give(workload, session)

    monkeypatch.setattr(executor.inner, "queue_workload", refuse_once)
    executor.heartbeat()
    assert given(executor) == ["second"]
    assert refused[0].key not in executor.running
    executor.heartbeat()
    assert given(executor) == ["second", "first"]


def test_a_task_without_a_token_is_still_held(
    executor: FateExecutor, heart: FakeHeartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = work("a", held=True)
    queue(executor, held)

    def fail(*_: object) -> str:
        raise RuntimeError("no key")

    monkeypatch.setattr(ExecuteTask, "generate_token", staticmethod(fail))
    with pytest.raises(RuntimeError, match="no key"):
        heart.outlet.submit(str(held.ti.id))
    executor.heartbeat()
    assert heart.beats == [{str(held.ti.id)}]


def test_a_dump_tells_each_tasks_story(executor: FateExecutor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    executor._log = logging.getLogger(__name__)  # type: ignore[assignment]
    task = work("llm", held=True)
    queue(executor, task)
    executor.frontier.handle(NotPlanned({str(task.ti.id): "there is no fleet"}, 100.0))
    executor.debug_dump()
    assert "held: there is no fleet" in caplog.text
