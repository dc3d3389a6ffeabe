"""What the chart installs is the whole way: a DAG's LLM tasks are bound by what gateways say on their pods, and real
engines answer at the pods' addresses."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

import airflow_fate.demo
from airflow_fate.demo.api import AirflowApi
from airflow_fate.demo.workload import document
from airflow_fate.state.fleetfile import built_in_model
from airflow_fate.state.ledger import Ledger, transaction
from tests.cluster.conftest import CHART, Helm, Namespace

DAGS = Path(airflow_fate.demo.__file__).parent / "dags"
DAG = "fate_demo_incidents"
ENGINES = "app.kubernetes.io/component=engine"


def values(inner_executor: str) -> dict[str, Any]:
    """Two pods with a llama.cpp engine each, and an Airflow that runs the demo's DAGs on them."""
    model = {
        "source": str(built_in_model()),
        "weightsGb": 0.1,
        "loadGbPerS": {"disk": 0.1, "host": 0.2},
        "prefillTps": {"cpu": 140},
        "decodeTps": {"cpu": 42},
    }
    engine = {"driver": "llamacpp", "gpus": 0, "gpu": "cpu", "threads": 1, "memoryGb": 0.15}
    cache = {"kvTokens": 8192, "maxSeqs": 1, "contextTokens": 4096}
    return {
        "models": {"smol-a": model, "smol-b": model},
        "pools": {"laptop": {"models": ["smol-a", "smol-b"], "replicas": 2, **engine, **cache}},
        "signingKey": {"keepOnUninstall": False},
        "airflow": {
            "innerExecutor": inner_executor,
            "dags": {"configMap": "dags"},
            "database": {"existingSecret": "database"},
            "config": {"core": {"dags_are_paused_at_creation": "False"}},
            "celery": {"brokerSecret": "broker"},
        },
    }


@dataclass(frozen=True)
class Release:
    """An installed chart."""

    api: AirflowApi
    ledger: Ledger


@asynccontextmanager
async def release(helm: Helm, namespace: Namespace, server: str, chosen: dict[str, Any]) -> AsyncIterator[Release]:
    database = make_url(server).set(database=namespace.name).render_as_string(hide_password=False)
    with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{namespace.name}"'))
    files = {path.name: path.read_text() for path in DAGS.glob("*.py")}
    await namespace.create("configmaps", {"metadata": {"name": "dags"}, "data": files})
    await namespace.create("secrets", {"metadata": {"name": "database"}, "stringData": {"connection": database}})
    await helm("install", "r", str(CHART), "--wait", "--timeout=300s", values=chosen)
    assert "Phase:          Succeeded" in await helm("test", "r", "--timeout=60s")
    secret = await namespace.api.get(f"{namespace.path('secrets')}/r-fate-airflow")
    service = await namespace.api.get(f"{namespace.path('services')}/r-fate-api-server")
    password = base64.b64decode(secret["data"]["admin-password"]).decode()
    airflow = AirflowApi(f"http://{service['spec']['clusterIP']}:8080", "admin", password)
    yield Release(airflow, Ledger(partial(transaction, create_engine(database))))
    await helm("uninstall", "r", "--wait", "--timeout=120s")


@pytest.mark.parametrize("inner", ["LocalExecutor", "CeleryExecutor", "KubernetesExecutor"])
async def test_a_dag_runs_on_the_engines_of_the_pods(
    helm: Helm, namespace: Namespace, postgres: str, redis: str, inner: str
) -> None:
    await namespace.create("secrets", {"metadata": {"name": "broker"}, "stringData": {"broker": redis}})
    async with release(helm, namespace, postgres, values(inner)) as run:
        run_id, state = await asyncio.to_thread(run_dag, run.api)
        pods = (await namespace.api.get(namespace.path("pods"), labelSelector=ENGINES))["items"]
        assert state == "success"
        reservations = run.ledger.of_runs([(DAG, run_id)])
        assert len(reservations) == 7
        assert {one.outcome for one in reservations} == {"success"}
        assert {share.device for one in reservations for share in one.shares} <= {p["metadata"]["name"] for p in pods}
        assert all(fact["completion_tokens"] > 0 for one in reservations for fact in one.facts)
        # The engines' own counts: all but the first of a pod found the document there.
        assert sum(fact["cached_tokens"] for one in reservations for fact in one.facts) > 0
        labels = {label: value for pod in pods for label, value in pod["metadata"]["labels"].items()}
        assert labels["fate.airflow/model.smol-a"] == "ready"


def run_dag(api: AirflowApi) -> tuple[str, str]:
    api.wait_dag(DAG)
    run_id = api.trigger(DAG, {"document": document("incident")[:2000]})
    return run_id, api.wait_run(DAG, run_id, 300)
