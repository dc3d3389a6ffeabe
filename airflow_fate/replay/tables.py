"""What do Airflow's tables and FATE's know of a DAG's runs?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import select

from airflow_fate.executor.database import connect, session_scope
from airflow_fate.executor.runs.convert import stage_id
from airflow_fate.executor.runs.reader import RunReader
from airflow_fate.replay.recorded import RecordedRun
from airflow_fate.state.ledger import Ledger


def recorded_runs(dag_id: str, run_ids: Sequence[str] = ()) -> Iterator[RecordedRun]:
    """The runs of a DAG, oldest first; those that Airflow knows no more are left out.

    :param run_ids: only these.
    :raises DBAPIError: when the tables can't be read.
    """
    ledger, reader = Ledger(connect), RunReader()
    for run_id in run_ids or ledger.run_ids(dag_id):
        version, seconds = _instances(dag_id, run_id)
        shapes = reader.read({(dag_id, run_id): version}) if version else {}
        for shape in shapes.values():
            yield RecordedRun(shape, tuple(ledger.of_runs([(dag_id, run_id)])), seconds)


def _instances(dag_id: str, run_id: str) -> tuple[str, dict[str, float]]:
    """The DAG's version in the run, empty where that is unknown, and stage -> seconds that its task ran."""
    from airflow.models.taskinstance import TaskInstance

    columns = (TaskInstance.task_id, TaskInstance.map_index, TaskInstance.duration, TaskInstance.dag_version_id)
    with session_scope() as session:
        rows = session.execute(
            select(*columns).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        ).all()
    version = next((str(row.dag_version_id) for row in rows if row.dag_version_id), "")
    return version, {stage_id(row.task_id, row.map_index): row.duration or 0.0 for row in rows}
