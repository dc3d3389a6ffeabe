"""How does FATE compare with round robin on real engines in pods? The demo's workload on fleets that the chart makes.

Each policy gets a fleet of its own, so that no cache is warm from the pass before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from airflow_fate.demo.api import StackError
from airflow_fate.demo.passes import PassResult, run_pass
from airflow_fate.demo.stack import AirflowStack
from airflow_fate.demo.workload import DAG_IDS, DAGS, RUNS_OF_EACH, WARMUP_DAG_ID, triggers
from airflow_fate.state.fleetfile import built_in_model
from tests.cluster.api import Api
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import CHART, helm_in, new_namespace
from tests.cluster.release import settings_beside, values
from tests.vllm.install import ENVIRONMENT, converted, ensure

POLICIES = ("fate", "round_robin")
EVENTS_PORT = 5557
START_S = 600.0
Say = Callable[[str], None]


def llamacpp(folder: Path) -> dict[str, Any]:
    """Three pods, each with room for one of two models."""
    chosen = values()
    chosen["pools"]["laptop"]["replicas"] = 3
    return chosen


def vllm(folder: Path) -> dict[str, Any]:
    """Two pods with the model and an adapter of it.

    :param folder: for the model in vLLM's own form.
    """
    model = values()["models"]["smol-a"] | {"source": str(converted(built_in_model(), folder / "model"))}
    adapter = model | {"source": f"{model['source']}/adapter", "adapterOf": "smol-a", "weightsGb": 0.002}
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "1", "VLLM_PLUGINS": ""}
    engine = {
        "image": "vllm",
        "command": [str(ensure() / "bin" / "vllm"), "serve"],
        "args": ["--enforce-eager", "--max-lora-rank=8"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    pool = values()["pools"]["laptop"] | {
        "models": ["smol-a", "smol-b"],
        "driver": "vllm",
        "replicas": 1,
        "memoryGb": 1,
    }
    # The machine's network is one for all pods, and vLLM's publisher listens on every interface: a port each.
    pools = {f"vllm-{k}": pool | {"engine": engine | {"eventsPort": EVENTS_PORT + k}} for k in range(2)}
    return values() | {"models": {"smol-a": model, "smol-b": adapter}, "pools": pools}


class Fleet(StrEnum):
    llamacpp = "llamacpp"
    vllm = "vllm"


_VALUES: Mapping[Fleet, Callable[[Path], dict[str, Any]]] = {Fleet.llamacpp: llamacpp, Fleet.vllm: vllm}


async def compare(fleet: Fleet, folder: Path, say: Say) -> dict[str, PassResult]:
    """One pass for each policy on a fleet; policy -> what it achieved."""
    chosen = _VALUES[fleet](folder) | {"airflow": {"enabled": False}}
    results = {}
    with Cluster(folder / "cluster", say=say) as cluster:
        async with Api.of(cluster.kubeconfig) as api:
            for policy in POLICIES:
                results[policy] = await _pass(api, cluster, folder / policy, policy, chosen)
                say(f"{fleet}, {policy}: {results[policy].wall_s:.1f} s")
    return results


async def _pass(api: Api, cluster: Cluster, folder: Path, policy: str, chosen: dict[str, Any]) -> PassResult:
    folder.mkdir(parents=True)
    async with new_namespace(api) as namespace:
        helm = helm_in(cluster, namespace)
        await helm("install", "r", str(CHART), values=chosen)
        # Helm waits for as many only as may not be away at once.
        engines = sum(pool["replicas"] for pool in chosen["pools"].values())
        await namespace.all_ready(engines, START_S, labelSelector="app.kubernetes.io/component=engine")
        settings = await settings_beside(namespace, cluster, folder)
        interrupted = threading.Event()
        try:
            result = await asyncio.to_thread(_run, folder, policy, settings, interrupted)
        finally:
            interrupted.set()
        await helm("uninstall", "r", "--wait", "--timeout=120s")
    return result


def _run(folder: Path, policy: str, settings: dict[str, str], interrupted: threading.Event) -> PassResult:
    def go_on() -> None:
        if interrupted.is_set():
            raise StackError("interrupted")

    with AirflowStack(folder / "airflow", DAGS, settings=settings | {"fate__policy": policy}) as stack:
        stack.migrate()
        stack.start("api-server", "dag-processor", "scheduler")
        stack.wait_healthy()
        for dag_id in (WARMUP_DAG_ID, *DAG_IDS):
            stack.api.wait_dag(dag_id)
        # The DAGs don't change from here on; parsing them again would only take time from the engines.
        stack.kill("dag-processor")
        stack.api.wait_run(WARMUP_DAG_ID, stack.api.trigger(WARMUP_DAG_ID))
        return run_pass(stack, triggers(policy, RUNS_OF_EACH), go_on)
