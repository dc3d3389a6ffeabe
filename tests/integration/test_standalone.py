"""``airflow standalone``, with which most people begin, keeps FateExecutor."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_fate.demo.passes import LocalFleetProcess
from airflow_fate.demo.stack import AirflowStack
from tests.integration.conftest import HERE

pytestmark = [pytest.mark.integration, pytest.mark.engine, pytest.mark.more]


def test_a_task_is_placed_under_standalone(tmp_path: Path, dags: Path) -> None:
    fleet = LocalFleetProcess(tmp_path / "fleet", HERE / "fleet.yaml")
    fleet.start(devices=3)
    with AirflowStack(tmp_path / "home", dags, settings={"fate__fleet_dir": str(fleet.folder)}) as stack:
        try:
            stack.start("standalone")
            stack.wait_healthy()
            stack.api.wait_dag("retrieval_chain")
            run_id = stack.api.trigger("retrieval_chain", {})
            assert stack.api.wait_run("retrieval_chain", run_id, 300) == "success"
            log = stack.api.task_log("retrieval_chain", run_id, "answer")
            assert "Bound to gpu-" in log
        finally:
            stack.kill("standalone")
            fleet.stop()
