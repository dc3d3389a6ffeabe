"""What does FateExecutor cost? Time to a task's start beside plain LocalExecutor's, and planning."""

from __future__ import annotations

import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_fate.demo.passes import LocalFleetProcess
from airflow_fate.demo.stack import AirflowStack

FATE = "airflow_fate.executor.FateExecutor"
PLAIN = "LocalExecutor"
DEVICES, READY = 200, 1000
_DAG_ID = "chain"
_DAG = """
from airflow.sdk import DAG, task

with DAG("{dag_id}", schedule=None) as dag:
    @task(executor_config={{"fate": {{"version": 1, "model": "m", "prompt_tokens": 10, "expected_output_tokens": 1}}}})
    def step(before=None):
        pass

    last = None
    for number in range({tasks}):
        last = step.override(task_id=f"step_{{number}}")(last)
"""
_FLEET = """
name: overhead
models:
  m: {weights_gb: 0.001, load_gb_per_s: {disk: 10, host: 10}, prefill_tps: {sim: 1000000}, decode_tps: {sim: 1000000}}
nodes:
  here: {host_gb: 1}
devices:
  d0: {node: here, gpu: sim, engine: simulated, memory_gb: 1, kv_tokens: 8192, max_seqs: 8}
  d1: {node: here, gpu: sim, engine: simulated, memory_gb: 1, kv_tokens: 8192, max_seqs: 8}
"""


def measure_start(tasks: int) -> dict[str, Any]:
    """Median seconds from scheduled to running of a chain of tasks, under FATE and under plain LocalExecutor.

    Under FATE every task has a stage spec, so each is held, planned, claimed and handed its binding; it does nothing
    then, so that nothing but the executor is timed. The two take turns on the same database.
    """
    with _folder() as folder:
        (folder / "dags").mkdir()
        (folder / "dags" / "chain.py").write_text(_DAG.format(dag_id=_DAG_ID, tasks=tasks))
        (folder / "fleet.yaml").write_text(_FLEET)
        fleet = LocalFleetProcess(folder / "fleet", folder / "fleet.yaml")
        # A short sleep, so that what the two executors take stands out against it.
        settings = {"fate__fleet_dir": str(folder / "fleet"), "scheduler__scheduler_idle_sleep_time": "0.1"}
        samples: dict[str, list[float]] = {FATE: [], PLAIN: []}
        try:
            fleet.start(devices=2)
            with AirflowStack(folder / "airflow", folder / "dags", settings=settings) as stack:
                stack.migrate()
                stack.start("api-server", "dag-processor")
                stack.wait_healthy()
                stack.api.wait_dag(_DAG_ID)
                stack.kill("dag-processor")
                for executor in (PLAIN, FATE, PLAIN, FATE):
                    stack.settings = {**settings, "core__executor": executor}
                    stack.start("scheduler")
                    run_id = stack.api.trigger(_DAG_ID)
                    stack.api.wait_run(_DAG_ID, run_id, timeout_s=300)
                    # The first tasks pay for connections and caches that every later one finds.
                    waits_s = [_waited_s(ti) for ti in stack.api.task_instances(_DAG_ID, run_id)]
                    samples[executor] += sorted(waits_s)[: max(1, len(waits_s) - 3)]
                    stack.kill("scheduler")
        finally:
            fleet.stop()
    fate_s, plain_s = statistics.median(samples[FATE]), statistics.median(samples[PLAIN])
    return {
        "tasks": tasks,
        "fate_median_ms": round(1000 * fate_s, 1),
        "local_executor_median_ms": round(1000 * plain_s, 1),
        "difference_ms": round(1000 * (fate_s - plain_s), 1),
    }


def measure_heartbeat(cycles: int) -> dict[str, Any]:
    """Planning in the heartbeat's thread for 1,000 ready stages on 200 devices.

    ``thread_ms`` is what the thread computed, ``wall_ms`` what passed meanwhile.
    """
    from airflow_fate.executor.planning.decider import Decider
    from airflow_fate.executor.planning.solver import SolverProcess
    from airflow_fate.physics.costs import CostModel
    from airflow_fate.planner.plan import Problem
    from airflow_fate.simulator.instances import random_instance

    solver = SolverProcess()
    solver.start()
    decider = Decider("fate", solver)
    decider.warm()
    wall_ms, thread_ms = [], []
    try:
        for seed in range(cycles):
            problem = Problem(*random_instance(seed, DEVICES, READY), CostModel(), 0.0)
            # A running scheduler has planned its workflows before: what they keep of themselves is there already.
            decider.decide(problem)
            gc.collect()  # what making the instance left behind is not the heartbeat's
            began, computed = time.perf_counter(), time.thread_time()
            decider.decide(problem)
            thread_ms.append(1000 * (time.thread_time() - computed))
            wall_ms.append(1000 * (time.perf_counter() - began))
    finally:
        solver.stop()
    return {
        "devices": DEVICES,
        "ready": READY,
        "cycles": cycles,
        "wall_ms": _spread(wall_ms),
        "thread_ms": _spread(thread_ms),
    }


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
    }


def _waited_s(ti: dict[str, Any]) -> float:
    scheduled, started = (datetime.fromisoformat(ti[key]) for key in ("scheduled_when", "start_date"))
    return (started - scheduled).total_seconds()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fate-overhead-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
