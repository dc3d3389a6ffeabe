"""common-ai's own example DAGs on a local fleet, with nothing changed but their connection (see ``conftest``).

Left out are those that need another service or a package that isn't here, those that wait for a person, and those that
ask for a text or a list without an upper bound inside a structure: the test's tiny model samples on until its context
is full, and the structure stays incomplete.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow.providers.common.ai import example_dags

from tests.integration.conftest import World

pytestmark = [pytest.mark.integration, pytest.mark.engine]
HERE = Path(next(iter(example_dags.__path__)))
FILES = ("llm", "llm_branch", "llm_classification", "quickstart")
DAGS = (
    "example_llm_branch_decorator",
    "example_llm_branch_descriptions",
    "example_llm_branch_operator",
    "example_llm_classification",
    "example_llm_decorator",
    "example_llm_operator",
    "example_llm_operator_model_settings",
    "example_llm_operator_templated_usage_limits",
    "example_llm_operator_usage_limits",
    "quickstart_llm",
)


@pytest.fixture(scope="module")
def runs(on_sqlite: World, dags: Path) -> dict[str, str]:
    """DAG -> a run of it; all run at once."""
    for name in FILES:
        shutil.copy(HERE / f"example_{name}.py", dags)
    for dag_id in DAGS:
        on_sqlite.stack.api.wait_dag(dag_id)
    return {dag_id: on_sqlite.stack.api.trigger(dag_id, {}) for dag_id in DAGS}


@pytest.mark.parametrize("dag_id", DAGS)
def test_the_example_runs_on_the_fleet(on_sqlite: World, runs: dict[str, str], dag_id: str) -> None:
    assert on_sqlite.finished(dag_id, runs[dag_id], timeout_s=300) == "success"
    reservations = on_sqlite.reservations(dag_id, runs[dag_id])
    assert {reservation.model for reservation in reservations} == {"smol-a"}
    assert all(reservation.facts[0]["completion_tokens"] > 0 for reservation in reservations)
