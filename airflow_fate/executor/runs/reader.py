"""What does Airflow's database say? Dag runs of the frontier, ended tries, and tasks given back: a few bounded queries.

All reading is done in the heartbeat on a session of its own, never inside the scheduler's transaction.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select, update

from airflow_fate.executor.database import session_scope
from airflow_fate.executor.runs.convert import RunShape, TaskShape, stage_id
from airflow_fate.messages import SpecError, read_spec
from airflow_fate.state.ledger import DATABASE_AWAY

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)
CHUNK = 500
KEPT_DAGS = 256
RunKey = tuple[str, str]
"""(dag id, run id)"""
ReadRuns = Callable[[Mapping[RunKey, str]], dict[RunKey, RunShape]]
"""Reads runs for which the DAG version (UUID) of their tasks is given."""


@dataclass(frozen=True, slots=True)
class _Dag:
    """A version of a DAG."""

    tasks: Mapping[str, TaskShape]
    params: Mapping[str, Any]


class RunReader:
    """Reads dag runs into shapes; a serialized DAG is loaded once for each of its versions."""

    def __init__(self) -> None:
        self._dags: OrderedDict[str, _Dag] = OrderedDict()

    def read(self, wanted: Mapping[RunKey, str]) -> dict[RunKey, RunShape]:
        """Read the given runs; those that are gone, or that can't be read, are left out.

        :param wanted: run -> the DAG version (UUID) of the tasks that are in the frontier.
        :raises DBAPIError: when the database can't be reached.
        """
        shapes: dict[RunKey, RunShape] = {}
        with session_scope() as session:
            for run, version in wanted.items():
                try:
                    shape = self._read(run, version, session)
                except DATABASE_AWAY:
                    raise
                except Exception as error:
                    session.rollback()
                    log.warning("%s, %s can't be read, its tasks are planned by what they say: %r", *run, error)
                else:
                    if shape is not None:
                        shapes[run] = shape
        return shapes

    def _read(self, key: RunKey, version: str, session: Session) -> RunShape | None:
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.state import State

        dag_id, run_id = key
        run = session.execute(
            select(DagRun.conf, DagRun.start_date, DagRun.queued_at).where(
                DagRun.dag_id == dag_id, DagRun.run_id == run_id
            )
        ).one_or_none()
        if run is None:
            return None
        instances: dict[str, list[int]] = {}
        finished = set()
        for row in session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state).where(
                TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id
            )
        ):
            instances.setdefault(row.task_id, []).append(row.map_index)
            if row.state in State.finished:
                finished.add(stage_id(row.task_id, row.map_index))
        dag = self._load(version, session)
        sources = {task.spec.prompts_from for task in dag.tasks.values() if task.spec and task.spec.prompts_from}
        lengths = _lengths(key, sources & finished, session)
        began = run.start_date or run.queued_at
        conf = run.conf if isinstance(run.conf, dict) else {}
        return RunShape(
            dag_id,
            run_id,
            began.timestamp() if began else 0.0,
            dag.tasks,
            {
                "dag_run": {"conf": conf, "run_id": run_id},
                "params": {**dag.params, **conf},
                "run_id": run_id,
            },
            {task_id: tuple(sorted(indexes)) for task_id, indexes in instances.items() if task_id in dag.tasks},
            frozenset(finished),
            lengths,
        )

    def _load(self, version: str, session: Session) -> _Dag:
        if version not in self._dags:
            from uuid import UUID

            from airflow.models.dagbag import DBDagBag

            dag = DBDagBag(load_op_links=False).get_dag(UUID(version), session=session)
            self._dags[version] = _Dag({} if dag is None else dict(task_shapes(dag)), plain_params(dag))
            if len(self._dags) > KEPT_DAGS:
                self._dags.popitem(last=False)
        self._dags.move_to_end(version)
        return self._dags[version]


def _lengths(run: RunKey, task_ids: set[str], session: Session) -> dict[str, int | None]:
    """How long the lists are that tasks returned; the database counts, nothing of them is read."""
    from airflow.models.xcom import XComModel

    if not task_ids:
        return {}
    value = XComModel.value
    match session.get_bind().dialect.name:
        case "postgresql":
            is_list, length = func.jsonb_typeof(value) == "array", func.jsonb_array_length(value)
        case "mysql":
            is_list, length = func.json_type(value) == "ARRAY", func.json_length(value)
        case _:
            is_list, length = func.json_type(value) == "array", func.json_array_length(value)
    rows = session.execute(
        select(XComModel.task_id, case((is_list, length), else_=None).label("length")).where(
            XComModel.dag_id == run[0],
            XComModel.run_id == run[1],
            XComModel.task_id.in_(task_ids),
            XComModel.map_index == -1,
            XComModel.key == "return_value",
        )
    )
    return dict.fromkeys(task_ids) | {row.task_id: row.length for row in rows}


def plain_params(dag: Any) -> Mapping[str, Any]:
    """The DAG's params with their defaults."""
    try:
        return dict(dag.params.dump()) if dag is not None and dag.params else {}
    except Exception:  # a required param has no default: templates then count as unknown
        return {}


def task_shapes(dag: Any) -> Iterator[tuple[str, TaskShape]]:
    """The tasks of a serialized DAG."""
    for task_id, task in dag.task_dict.items():
        try:
            spec = read_spec(task.executor_config)
        except SpecError as error:
            log.warning("%s.%s: %s", dag.dag_id, task_id, error)
            spec = None
        group = task.get_closest_mapped_task_group()
        yield task_id, TaskShape(task_id, spec, tuple(sorted(task.upstream_task_ids)), group.group_id if group else "")


def ended_tries(ti_ids: Sequence[str]) -> dict[str, str]:
    """Of the given tries (UUIDs), those that no longer run, with what became of them.

    A try has ended when its row says so (``success``, ``failed``, ``deferred``, ...) or is gone: a new try has a new
    id (``replaced``). The database is asked and not the executor's events, which come for deferred tasks too, late, or
    not at all.
    """
    from uuid import UUID

    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState

    active = (TaskInstanceState.QUEUED, TaskInstanceState.RUNNING, TaskInstanceState.RESTARTING)
    states: dict[str, Any] = {}
    with session_scope() as session:
        for chunk in _chunks(ti_ids):
            rows = session.execute(
                select(TaskInstance.id, TaskInstance.state).where(TaskInstance.id.in_([UUID(ti_id) for ti_id in chunk]))
            )
            states.update((str(row.id), row.state) for row in rows)
    return {ti_id: str(states.get(ti_id) or "replaced") for ti_id in ti_ids if states.get(ti_id) not in active}


def give_back(ti_ids: Sequence[str]) -> None:
    """Return held tasks to SCHEDULED, so that Airflow queues them anew instead of calling them stuck."""
    from uuid import UUID

    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState

    with session_scope() as session:
        session.execute(
            update(TaskInstance)
            .where(
                TaskInstance.id.in_([UUID(ti_id) for ti_id in ti_ids]),
                TaskInstance.state == TaskInstanceState.QUEUED,
            )
            .values(
                state=TaskInstanceState.SCHEDULED, queued_dttm=None, queued_by_job_id=None, external_executor_id=None
            )
            .execution_options(synchronize_session=False)
        )


def _chunks(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
