"""What the chart installs is the whole way: a DAG's LLM tasks are bound by what gateways say on their pods, and real
engines answer at the pods' addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

import airflow_fate.demo
from airflow_fate.demo.workload import document
from tests.cluster.conftest import Helm, Namespace
from tests.cluster.release import release, values

DAGS = Path(airflow_fate.demo.__file__).parent / "dags"
DAG = "fate_demo_incidents"


@pytest.mark.parametrize("inner", ["LocalExecutor", "CeleryExecutor", "KubernetesExecutor"])
async def test_a_dag_runs_on_the_engines_of_the_pods(
    helm: Helm, namespace: Namespace, postgres: str, redis: str, inner: str
) -> None:
    await namespace.create("secrets", {"metadata": {"name": "broker"}, "stringData": {"broker": redis}})
    async with release(helm, namespace, postgres, values(inner), DAGS) as run:
        run_id = await run.trigger(DAG, document=document("incident")[:2000])
        state, reservations = await run.ended(DAG, run_id)
        assert state == "success"
        assert [reservation.outcome for reservation in reservations] == ["success"] * 7
        pods = await run.engines()
        assert {share.device for reservation in reservations for share in reservation.shares} <= {
            p["metadata"]["name"] for p in pods
        }
        facts = [fact for reservation in reservations for fact in reservation.facts]
        assert all(fact["completion_tokens"] > 0 for fact in facts)
        # The engines' own counts: all but the first of a pod found the document there.
        assert sum(fact["cached_tokens"] for fact in facts) > 0
        labels = {label: value for pod in pods for label, value in pod["metadata"]["labels"].items()}
        assert labels["fate.airflow/model.smol-a"] == "ready"
