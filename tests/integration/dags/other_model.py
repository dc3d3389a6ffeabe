"""One task for a model of which a test says who has it."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_fate.operators import LLMOperator

with DAG("other_model", schedule=None, doc_md=__doc__) as dag:
    LLMOperator(task_id="ask", model="smol-b", prompt="Say hello.", max_tokens=4)
