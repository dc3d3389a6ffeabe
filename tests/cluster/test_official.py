"""With ``airflow.enabled=false``: an Airflow that somebody else runs, with the values that the release prints."""

from __future__ import annotations

import asyncio
import base64
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import create_engine

from airflow_fate.demo.stack import AirflowStack
from airflow_fate.state.ledger import Ledger, Reservation, transaction
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import CHART, Helm, Namespace, identity
from tests.cluster.release import values
from tests.commands import fate

DAGS = Path(__file__).parents[1] / "integration" / "dags"
SCHEDULER = "airflow-scheduler"
"""The official chart's own name for it, to whom the release gives the rights to watch."""
DOCUMENT = "A lighthouse keeper counts the ships that pass by night. " * 12


async def test_another_airflow_runs_a_dag_on_the_engines_of_the_pods(
    tmp_path: Path, helm: Helm, cluster: Cluster, namespace: Namespace
) -> None:
    await namespace.create("serviceaccounts", {"metadata": {"name": SCHEDULER}})
    chosen = values() | {"airflow": {"enabled": False}}
    await helm("install", "r", str(CHART), "--wait", "--timeout=120s", values=chosen)
    settings = await printed(namespace, tmp_path)
    settings["fate__kubeconfig"] = str(await identity(namespace, cluster, tmp_path, SCHEDULER))
    reservations = await asyncio.to_thread(run_dag, tmp_path, settings)
    assert sorted(one.task_id for one in reservations) == ["first", "mapped", "mapped", "mapped"]
    assert {one.outcome for one in reservations} == {"success"}
    # The engines' own counts: the document was in the cache of those that had answered about it.
    assert sum(fact["cached_tokens"] for one in reservations for fact in one.facts) > len(DOCUMENT.split())
    await helm("uninstall", "r", "--wait", "--timeout=120s")


async def printed(namespace: Namespace, folder: Path) -> dict[str, str]:
    """What the release wants in the other chart's values, as this machine's Airflow takes it."""
    maps = namespace.path("configmaps")
    stated = (await namespace.api.get(f"{maps}/r-fate-official-airflow"))["data"]["values.yaml"]
    config: dict[str, dict[str, Any]] = yaml.safe_load(stated)["config"]
    settings = {f"{section}__{key}": str(value) for section, keys in config.items() for key, value in keys.items()}
    models = folder / "models.yaml"
    models.write_text((await namespace.api.get(f"{maps}/r-fate-models"))["data"]["models.yaml"])
    secret = await namespace.api.get(f"{namespace.path('secrets')}/r-fate-gateways")
    key = base64.b64decode(secret["data"]["gateway-secret"]).decode()
    return settings | {"fate__models_file": str(models), "fate__gateway_secret": key}


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
    (noticed,) = [one for one in findings if one["grade"] != "ok"]
    assert (noticed["check"], noticed["grade"]) == ("models", "warning")
    assert "none serves smol-c" in noticed["seen"]
    code, findings = fate("doctor", stack.environment(), AIRFLOW__FATE__GATEWAY_SECRET="w" * 32)
    assert code == 1
    (failed,) = [one for one in findings if one["grade"] == "failure"]
    assert (failed["check"], "refuses our key" in failed["seen"]) == ("gateways", True)
    code, state = fate("state", stack.environment())
    assert code == 0
    assert [one["may_get_tasks"] for one in state["devices"]] == [True, True]
    assert {model for one in state["devices"] for model in one["models"]} >= {"smol-a"}
    assert state["reservations"] == []
