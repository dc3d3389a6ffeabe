"""What does Airflow say of a run's tasks? Whether one is FATE's, when each ran, and who came before whom."""

from __future__ import annotations

from sqlalchemy import select

from airflow_fate.executor.database import session_scope
from airflow_fate.executor.runs.convert import TaskShape
from airflow_fate.executor.runs.reader import task_shapes
from airflow_fate.messages import SpecError, read_spec
from airflow_fate.plugin.runs import Span, Timeline


def has_spec(dag_id: str, run_id: str, task_id: str, map_index: int) -> bool | None:
    """Whether a task instance is for FATE to place; None where there is no such instance."""
    from airflow.models.taskinstance import TaskInstance

    with session_scope() as session:
        row = session.execute(
            select(TaskInstance.executor_config).where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == run_id,
                TaskInstance.task_id == task_id,
                TaskInstance.map_index == map_index,
            )
        ).one_or_none()
    if row is None:
        return None
    try:
        return read_spec(row.executor_config) is not None
    except SpecError:
        # It says that it is FATE's, in words that can't be used: its log says which.
        return True


def timeline(dag_id: str, run_id: str, now: float) -> Timeline:
    """When a run's task instances ran, and the tasks of its DAG.

    :param now: Unix seconds; what still runs ends here.
    """
    from airflow.models.dagbag import DBDagBag
    from airflow.models.taskinstance import TaskInstance

    with session_scope() as session:
        rows = session.execute(
            select(
                TaskInstance.task_id,
                TaskInstance.map_index,
                TaskInstance.start_date,
                TaskInstance.end_date,
                TaskInstance.dag_version_id,
            ).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.start_date.is_not(None))
        ).all()
        versions = {row.dag_version_id for row in rows if row.dag_version_id is not None}
        shapes: dict[str, TaskShape] = {}
        for version in versions:
            dag = DBDagBag(load_op_links=False).get_dag(version, session=session)
            shapes.update(task_shapes(dag) if dag is not None else ())
    return Timeline(
        tuple(
            Span(
                row.task_id,
                row.map_index,
                row.start_date.timestamp(),
                row.end_date.timestamp() if row.end_date else now,
            )
            for row in rows
        ),
        shapes,
    )
