"""Mistakes that only a running Airflow can tell: each task fails in its own log, before a device is taken for it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_fate.operators import LLMOperator

MISTAKES: dict[str, dict[str, Any]] = {
    "unknown_model": {"model": "ghost"},
    "too_large_model": {"model": "giant"},
    "no_connection": {"model": "smol-a", "llm_conn_id": "nowhere"},
    "other_connection": {"model": "smol-a", "llm_conn_id": "theirs"},
    "no_model": {},
    "too_long": {"model": "smol-a", "prompt": "One more word. " * 2000},
}

with DAG("mistakes", schedule=None, doc_md=__doc__) as dag:
    for name, given in MISTAKES.items():
        LLMOperator(task_id=name, **{"prompt": "Say hello.", "max_tokens": 4, "retries": 3, **given})
