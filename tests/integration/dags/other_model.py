"""Tasks for models of which tests say who has them."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_fate.operators import LLMOperator

with DAG("other_model", schedule=None, doc_md=__doc__) as other:
    LLMOperator(task_id="ask", model="smol-b", prompt="Say hello.", max_tokens=4)

with DAG("third_model", schedule=None, doc_md=__doc__) as third:
    asked = LLMOperator(task_id="ask", model="smol-c", prompt="Tell a story of a ship.", max_tokens=30)
    LLMOperator(task_id="ask_on", model="smol-c", continues="ask", prompt="And then?", max_tokens=4) << asked

with DAG("wide_model", schedule=None, doc_md=__doc__) as wide:
    LLMOperator(
        task_id="ask", model="wide", prompt="Tell a story of a train.", max_tokens=600, retries=2,
        retry_delay=timedelta(0), model_settings={"extra_body": {"ignore_eos": True}},
    )  # fmt: skip
