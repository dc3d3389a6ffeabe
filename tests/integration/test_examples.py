"""The example DAGs, as people would copy them, on a local fleet."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import World

pytestmark = [pytest.mark.integration, pytest.mark.engine]


@pytest.mark.parametrize(
    ("dag_id", "conf", "last"),
    [
        ("map_reduce_summary", {"sections": ["The bridge was closed on Monday.", "It opens again in May."]}, "combine"),
        ("debate_and_judge", {"question": "Should trains be free?"}, "judge"),
        ("retrieval_chain", {}, "check"),
    ],
)
def test_the_example_runs(on_sqlite: World, dag_id: str, conf: dict[str, Any], last: str) -> None:
    on_sqlite.stack.wait_dag(dag_id)
    run_id = on_sqlite.stack.trigger(dag_id, conf)
    assert on_sqlite.finished(dag_id, run_id) == "success"
    (final,) = [one for one in on_sqlite.reservations(dag_id, run_id) if one.task_id == last]
    assert final.facts[0]["completion_tokens"] > 0
