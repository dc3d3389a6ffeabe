"""Which DAG is meant, and what would its runs be? Read from a file, or by its id from a configured Airflow."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from airflow_fate.executor.database import connect, session_scope
from airflow_fate.executor.runs.connections import Connections, Placed, Refused
from airflow_fate.executor.runs.convert import RunShape, TaskShape, to_workflow
from airflow_fate.executor.runs.estimates import Estimator
from airflow_fate.executor.runs.reader import plain_params, task_shapes
from airflow_fate.state.history import History, TaskHistory
from airflow_fate.workflow import Workflow

_RAISED = re.compile(r"[\w.]*(Error|Exception|Violation|Warning)\b")


class DagError(ValueError):
    """A DAG that can't be used; says where it was looked for and what is expected."""


@dataclass(frozen=True)
class DagShape:
    """A DAG before any run of it.

    :param origin: where it was read.
    :param params: with their defaults.
    :param mapped: mapped task -> its instances; None where only a run can tell.
    """

    dag_id: str
    origin: str
    tasks: Mapping[str, TaskShape]
    params: Mapping[str, Any]
    mapped: Mapping[str, int | None]

    @property
    def llm_tasks(self) -> list[TaskShape]:
        return [task for task in self.tasks.values() if task.spec is not None]


def read_dag_file(path: Path, dag_id: str | None = None) -> DagShape:
    """A DAG of a file, parsed in this process as Airflow would.

    :param dag_id: which one, where the file has several.
    :raises DagError: when there is none, or when it is not clear which.
    """
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    if not path.is_file():
        raise DagError(f"{path}: no such file; expected a Python file with a DAG, or the id of a DAG")
    with _missing_imports() as missing:
        bag = DagBag(str(path), load_op_links=False)
    # A file may look for a module, and go on without its DAGs when there is none.
    without = f"; not installed here: {', '.join(missing)}" if missing else ""
    for trace in bag.import_errors.values():
        raise DagError(f"{path}: can't be imported: {_error(trace)}")
    if not bag.dags:
        raise DagError(f"{path}: has no DAG; expected a Python file that makes one{without}")
    ids = ", ".join(sorted(bag.dags))
    if dag_id is None and len(bag.dags) > 1:
        raise DagError(f"{path}: has several DAGs, choose one with --dag-id: {ids}")
    if dag_id is not None and dag_id not in bag.dags:
        raise DagError(f"{path}: has no DAG {dag_id!r}; it has {ids}")
    dag = bag.dags[dag_id or ids]
    # What the executor reads is the serialized DAG, too.
    return _shape(DagSerialization.from_dict(DagSerialization.to_dict(dag)), str(path))


def read_dag(dag_id: str) -> DagShape:
    """The latest version of a DAG of the configured Airflow.

    :raises DagError: when there is none, or no database.
    """
    from airflow.models.serialized_dag import SerializedDagModel
    from sqlalchemy.exc import SQLAlchemyError

    origin = "the configured Airflow"
    try:
        with session_scope() as session:
            serialized = SerializedDagModel.get(dag_id, session=session)
            dag = serialized.dag if serialized is not None else None
    except SQLAlchemyError as error:
        raise DagError(f"{dag_id}: the database of {origin} can't be read: {_last_line(str(error.args[0]))}") from error
    if dag is None:
        raise DagError(f"{dag_id}: {origin} has no such DAG, and there is no such file")
    return _shape(dag, origin)


def read_history(dag_id: str) -> Mapping[tuple[str, str], TaskHistory]:
    """What FATE's tables know of the DAG's tasks; nothing where there is no such table or database."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return History(connect).of_dags([dag_id])
    except SQLAlchemyError:
        return {}


def runs_of(
    dag: DagShape, estimator: Estimator, runs: int, every_s: float, instances: Mapping[str, int]
) -> tuple[Workflow, ...]:
    """So many runs, so far apart, with the params' defaults.

    :param instances: of mapped tasks; those that are absent stand for one.
    :raises DagError: when the tasks don't make a workflow.
    """
    indexes = {task_id: tuple(range(count)) for task_id, count in instances.items()}
    workflows = []
    for number in range(runs):
        run_id = f"run-{number:04d}"
        values = {"dag_run": {"conf": {}, "run_id": run_id}, "params": dag.params, "run_id": run_id}
        shape = RunShape(dag.dag_id, run_id, number * every_s, dag.tasks, values, indexes)
        try:
            workflows.append(to_workflow(shape, estimator))
        except ValueError as error:
            raise DagError(f"{dag.origin}: {error}") from error
    return tuple(workflows)


def _shape(dag: Any, origin: str) -> DagShape:
    counts = {task_id: _count(task) for task_id, task in dag.task_dict.items()}
    mapped = {task_id: count or None for task_id, count in counts.items() if count is not None}
    return DagShape(dag.dag_id, origin, dict(_placed(dag)), plain_params(dag), mapped)


def _placed(dag: Any) -> Iterator[tuple[str, TaskShape]]:
    """The DAG's tasks, with the models that their connections name.

    :raises DagError: when a task could never run.
    """
    connections = Connections()
    for task_id, task in task_shapes(dag):
        if task.spec is None or (task.spec.model and not task.spec.only_on_fate):
            # What the connection says changes nothing; where it isn't made yet, one may still ask what would be.
            yield task_id, task
            continue
        match connections.judge_now(task.spec):
            case Placed(spec):
                yield task_id, replace(task, spec=spec)
            case Refused(reason):
                raise DagError(f"{dag.dag_id}.{task_id}: {reason}")
            case _:
                yield task_id, replace(task, spec=None)


def _count(task: Any) -> int | None:
    """Instances of a task that is mapped, by itself or by its group; 0 where only a run can tell."""
    from airflow.exceptions import NotMapped
    from airflow.models.expandinput import NotFullyPopulated

    try:
        return int(task.get_parse_time_mapped_ti_count())
    except NotMapped:
        return None
    except NotFullyPopulated:
        return 0


class _Missing(MetaPathFinder):
    """Stands behind all finders: what it is asked for, none of them has found."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        self.names.setdefault(fullname)


@contextmanager
def _missing_imports() -> Iterator[Sequence[str]]:
    """The modules that were looked for inside and aren't there, in the order in which they were wanted."""
    names: list[str] = []
    finder = _Missing()
    sys.meta_path.append(finder)
    try:
        yield names
    finally:
        sys.meta_path.remove(finder)
        # Parts of a package are optional more often than not; Airflow's are its providers.
        names.extend(name for name in finder.names if "." not in name or name.startswith("airflow."))


def _error(trace: str) -> str:
    """What a traceback ends with, on one line: a message may have several, with what is wrong in any of them."""
    lines = [line.strip() for line in trace.strip().splitlines() if line.strip()] or ["no reason given"]
    began = max((k for k, line in enumerate(lines) if _RAISED.match(line)), default=len(lines) - 1)
    return " ".join(lines[began:])


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
