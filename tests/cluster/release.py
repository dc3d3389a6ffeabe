"""How does a test install the whole chart, with engines of llama.cpp and an Airflow that runs DAGs on them?"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import create_engine, make_url, text

from airflow_fate.demo.api import AirflowApi
from airflow_fate.gateway.child import free_port
from airflow_fate.state.fleetfile import built_in_model
from airflow_fate.state.ledger import Ledger, Reservation, transaction
from tests.cluster.api import Object
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import CHART, Helm, Namespace, identity
from tests.until import until

ENGINES = "fate-pool=laptop"
OFFICIAL_SCHEDULER = "airflow-scheduler"
"""The official chart's own name for it, to whom a release without Airflow gives the rights to watch."""


def values(inner_executor: str = "LocalExecutor", served: Sequence[str] = ("smol-a", "smol-b")) -> dict[str, Any]:
    """Two pods with a llama.cpp engine each, and an Airflow that runs DAGs on them.

    :param served: which of the models ``smol-a`` and ``smol-b`` the engines have.
    """
    model = {
        "source": str(built_in_model()),
        "weightsGb": 0.1,
        "loadGbPerS": {"disk": 0.1, "host": 0.2},
        "prefillTps": {"cpu": 140},
        "decodeTps": {"cpu": 42},
    }
    engine = {"driver": "llamacpp", "gpus": 0, "gpu": "cpu", "threads": 1, "memoryGb": 0.15}
    cache = {"kvTokens": 8192, "maxSeqs": 1, "contextTokens": 4096}
    # All pods of all clusters share the machine's network, and those who serve logs listen on every interface.
    logging = {f"{part}_log_server_port": str(free_port()) for part in ("worker", "trigger")}
    return {
        "models": {"smol-a": model, "smol-b": model, "smol-c": model},
        "pools": {"laptop": {"models": list(served), "replicas": 2, **engine, **cache}},
        "signingKey": {"keepOnUninstall": False},
        "airflow": {
            "innerExecutor": inner_executor,
            "dags": {"configMap": "dags"},
            "database": {"existingSecret": "database"},
            "config": {"core": {"dags_are_paused_at_creation": "False"}, "logging": logging},
            "celery": {"brokerSecret": "broker"},
        },
    }


async def settings_beside(namespace: Namespace, cluster: Cluster, folder: Path) -> dict[str, str]:
    """What a release without Airflow wants in the other chart's values, as this machine's Airflow takes it."""
    await namespace.create("serviceaccounts", {"metadata": {"name": OFFICIAL_SCHEDULER}})
    maps = namespace.path("configmaps")
    stated = (await namespace.api.get(f"{maps}/r-fate-official-airflow"))["data"]["values.yaml"]
    config: dict[str, dict[str, Any]] = yaml.safe_load(stated)["config"]
    settings = {f"{section}__{key}": str(value) for section, keys in config.items() for key, value in keys.items()}
    models = folder / "models.yaml"
    models.write_text((await namespace.api.get(f"{maps}/r-fate-models"))["data"]["models.yaml"])
    secret = await namespace.api.get(f"{namespace.path('secrets')}/r-fate-gateways")
    return settings | {
        "fate__models_file": str(models),
        "fate__gateway_secret": base64.b64decode(secret["data"]["gateway-secret"]).decode(),
        "fate__kubeconfig": str(await identity(namespace, cluster, folder, OFFICIAL_SCHEDULER)),
    }


@dataclass(frozen=True)
class Release:
    """An installed chart."""

    namespace: Namespace
    api: AirflowApi
    ledger: Ledger

    async def engines(self) -> list[Object]:
        """The pods of its pool ``laptop``."""
        pods = await self.namespace.api.get(self.namespace.path("pods"), labelSelector=ENGINES)
        return list(pods["items"])

    async def trigger(self, dag: str, **conf: str) -> str:
        """Start a run of a DAG, once it is there; returns the run's id."""
        await asyncio.to_thread(self.api.wait_dag, dag)
        return await asyncio.to_thread(self.api.trigger, dag, conf)

    async def ended(self, dag: str, run_id: str) -> tuple[str, list[Reservation]]:
        """The state of a run that has ended, and all of its reservations."""
        state = await asyncio.to_thread(self.api.wait_run, dag, run_id)
        await asyncio.to_thread(
            until, lambda: all(reservation.ended_at is not None for reservation in self.of(dag, run_id))
        )
        return state, self.of(dag, run_id)

    def of(self, dag: str, run_id: str) -> list[Reservation]:
        return self.ledger.of_runs([(dag, run_id)])


@asynccontextmanager
async def release(
    helm: Helm, namespace: Namespace, server: str, chosen: dict[str, Any], dags: Path
) -> AsyncIterator[Release]:
    """Install the chart with a database of its own; take it away at the end.

    :param server: URL of a PostgreSQL server.
    :param dags: a folder of DAG files.
    """
    database = make_url(server).set(database=namespace.name).render_as_string(hide_password=False)
    with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{namespace.name}"'))
    files = {path.name: path.read_text() for path in dags.glob("*.py")}
    await namespace.create("configmaps", {"metadata": {"name": "dags"}, "data": files})
    await namespace.create("secrets", {"metadata": {"name": "database"}, "stringData": {"connection": database}})
    await helm("install", "r", str(CHART), "--wait", "--timeout=300s", values=chosen)
    assert "Phase:          Succeeded" in await helm("test", "r", "--timeout=60s")
    secret = await namespace.api.get(f"{namespace.path('secrets')}/r-fate-airflow")
    service = await namespace.api.get(f"{namespace.path('services')}/r-fate-api-server")
    password = base64.b64decode(secret["data"]["admin-password"]).decode()
    airflow = AirflowApi(f"http://{service['spec']['clusterIP']}:8080", "admin", password)
    yield Release(namespace, airflow, Ledger(partial(transaction, create_engine(database))))
    await helm("uninstall", "r", "--wait", "--timeout=120s")
