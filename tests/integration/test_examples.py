"""The example DAGs, as people would copy them, on a local fleet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import World

pytestmark = [pytest.mark.integration, pytest.mark.engine]


CONF: dict[str, dict[str, Any]] = {
    "map_reduce_summary": {"sections": ["The bridge was closed on Monday.", "It opens again in May."]},
    "debate_and_judge": {"question": "Should trains be free?"},
    "retrieval_chain": {},
}


@pytest.fixture(scope="module")
def runs(on_sqlite: World) -> dict[str, str]:
    """DAG -> a run of it; all run at once."""
    for dag_id in CONF:
        on_sqlite.stack.api.wait_dag(dag_id)
    return {dag_id: on_sqlite.stack.api.trigger(dag_id, conf) for dag_id, conf in CONF.items()}


@pytest.mark.parametrize(
    ("dag_id", "last"), [("map_reduce_summary", "combine"), ("debate_and_judge", "judge"), ("retrieval_chain", "check")]
)
def test_the_example_runs(on_sqlite: World, runs: dict[str, str], dag_id: str, last: str) -> None:
    assert on_sqlite.finished(dag_id, runs[dag_id]) == "success"
    reservations = on_sqlite.reservations(dag_id, runs[dag_id])
    (final,) = [reservation for reservation in reservations if reservation.task_id == last]
    assert final.facts[0]["completion_tokens"] > 0


def test_what_runs_have_taught_is_in_what_a_simulation_answers(
    on_sqlite: World, runs: dict[str, str], tmp_path: Path
) -> None:
    assert on_sqlite.finished("retrieval_chain", runs["retrieval_chain"]) == "success"
    speeds = {"prefill_tps": {"l4": 1500.0}, "decode_tps": {"l4": 30.0}}
    fleet = {
        "nodes": [{"id": "n", "gbps": 10.0}],
        "devices": [{"id": "d", "node": "n", "gpu": "l4", "memory_gb": 20.0, "kv_tokens": 20_000, "max_seqs": 4}],
        "models": {"smol-a": {"weights_gb": 12.0, "load_gb_per_s": {"disk": 2.0, "host": 8.0}} | speeds},
    }
    (tmp_path / "F.json").write_text(json.dumps(fleet))
    arguments = ["simulate", "retrieval_chain", "--fleet", str(tmp_path / "F.json"), "--runs", "2", "--policy", "eft"]
    done = subprocess.run(
        [sys.executable, "-m", "airflow_fate.cli.main", *arguments, "--seeds", "2", "--jobs", "1", "--output", "json"],
        env=on_sqlite.stack.environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)["tasks"]["answer"]
    assert answer["history_runs"] >= 1
    assert answer["output_from"] == "history"
