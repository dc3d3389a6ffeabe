"""common-ai's own example DAGs, with nothing changed but their connection: what `fate simulate` makes of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.common.ai import example_dags
from airflow.providers.common.ai.operators.llm import LLMOperator

from airflow_fate.executor.runs.dags import DagError, read_dag_file, runs_of
from airflow_fate.executor.runs.estimates import Estimator

FILES = sorted(Path(next(iter(example_dags.__path__))).glob("example_*.py"))
OURS = '{"conn_type": "fate", "extra": {"model": "smol"}}'


@pytest.fixture(autouse=True)
def _connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYDANTICAI", "DECISION", "PYDANTIC_AI"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}_DEFAULT", OURS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_played_or_refused_with_what_is_missing(path: Path) -> None:
    bag = DagBag(str(path), load_op_links=False)
    if path.stem == "example_llm_batch":
        for dag_id in bag.dags:
            with pytest.raises(DagError, match="engines of the fleet have no batch API"):
                read_dag_file(path, dag_id)
        return
    if not bag.dags:
        with pytest.raises(DagError, match=r"(not installed here: |No module named ')\w+"):
            read_dag_file(path)
        return
    for dag_id, dag in bag.dags.items():
        asks = {
            task.task_id
            for task in dag.tasks
            if issubclass(getattr(task, "operator_class", type(task)), LLMOperator)
            and getattr(task, "llm_conn_id", "pydanticai_default") in ("pydanticai_default", "decision_default")
        }
        shape = read_dag_file(path, dag_id)
        assert asks <= {task.task_id for task in shape.llm_tasks}
        assert {task.spec.model for task in shape.llm_tasks if task.spec} <= {"smol"}
        counts = {task_id: count or 2 for task_id, count in shape.mapped.items()}
        (workflow,) = runs_of(shape, Estimator("what if"), 1, 0.0, counts)
        assert asks <= {name.partition("[")[0] for name, stage in workflow.stages.items() if stage.is_llm}
