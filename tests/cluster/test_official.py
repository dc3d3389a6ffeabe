"""With ``airflow.enabled=false``: an Airflow that somebody else runs, with the values that the release prints."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine

from airflow_fate.demo.stack import AirflowStack
from airflow_fate.state.ledger import Ledger, Reservation, transaction
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import CHART, Helm, Namespace
from tests.cluster.release import settings_beside, values
from tests.commands import fate

DAGS = Path(__file__).parents[1] / "integration" / "dags"
DOCUMENT = "A lighthouse keeper counts the ships that pass by night. " * 12


async def test_another_airflow_runs_a_dag_on_the_engines_of_the_pods(
    tmp_path: Path, helm: Helm, cluster: Cluster, namespace: Namespace
) -> None:
    chosen = values() | {"airflow": {"enabled": False}}
    await helm("install", "r", str(CHART), "--wait", "--timeout=120s", values=chosen)
    settings = await settings_beside(namespace, cluster, tmp_path)
    reservations = await asyncio.to_thread(run_dag, tmp_path, settings)
    assert sorted(reservation.task_id for reservation in reservations) == ["first", "mapped", "mapped", "mapped"]
    assert {reservation.outcome for reservation in reservations} == {"success"}
    # The engines' own counts: the document was in the cache of those that had answered about it.
    assert sum(fact["cached_tokens"] for reservation in reservations for fact in reservation.facts) > len(
        DOCUMENT.split()
    )
    await helm("uninstall", "r", "--wait", "--timeout=120s")


def run_dag(folder: Path, settings: dict[str, str]) -> list[Reservation]:
    """Run the DAG ``shared_document``; what the ledger knows of the run."""
    dags = folder / "dags"
    dags.mkdir()
    shutil.copy(DAGS / "answers.py", dags)
    with AirflowStack(folder / "airflow", dags, settings=settings) as stack:
        stack.migrate()
        stack.start("api-server", "dag-processor", "scheduler")
        stack.wait_healthy()
        stack.api.wait_dag("shared_document")
        run_id = stack.api.trigger("shared_document", {"document": DOCUMENT})
        assert stack.api.wait_run("shared_document", run_id) == "success"
        look_around(stack)
        return Ledger(partial(transaction, create_engine(stack.database))).of_runs([("shared_document", run_id)])


def look_around(stack: AirflowStack) -> None:
    """``fate doctor`` and ``fate state`` beside a release that is well, and with a key that isn't the gateways'."""
    code, findings = fate("doctor", stack.environment())
    assert code == 0
    # The release serves two of the models that the settings name, and a doctor that is asked says so.
    (noticed,) = [finding for finding in findings if finding["grade"] != "ok"]
    assert (noticed["check"], noticed["grade"]) == ("models", "warning")
    assert "none serves smol-c" in noticed["seen"]
    code, findings = fate("doctor", stack.environment(), AIRFLOW__FATE__GATEWAY_SECRET="w" * 32)
    assert code == 1
    (failed,) = [finding for finding in findings if finding["grade"] == "failure"]
    assert (failed["check"], "refuses our key" in failed["seen"]) == ("gateways", True)
    code, state = fate("state", stack.environment())
    assert code == 0
    assert [device["may_get_tasks"] for device in state["devices"]] == [True, True]
    assert {model for device in state["devices"] for model in device["models"]} >= {"smol-a"}
    assert state["reservations"] == []
