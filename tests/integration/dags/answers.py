"""Answers whose length the run decides, tasks over one document, and an answer too large for XCom."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_fate.operators import LLMOperator

with DAG("slow_answers", schedule=None, doc_md=__doc__) as slow:
    LLMOperator.partial(
        task_id="answer",
        model="smol-a",
        max_tokens=250,
        retries=2,
        retry_delay=timedelta(0),
        model_settings={"extra_body": {"ignore_eos": True}},
    ).expand(prompt=[f"Tell story number {number}." for number in range(4)])

with DAG("short_answers", schedule=None, doc_md=__doc__) as short:
    LLMOperator.partial(
        task_id="answer", model="smol-a", max_tokens=200, model_settings={"extra_body": {"ignore_eos": True}}
    ).expand(prompt=[f"Tell story number {number}." for number in range(3)])

with DAG("shared_document", schedule=None, doc_md=__doc__) as shared:
    document = "{{ dag_run.conf['document'] }}"
    first = LLMOperator(task_id="first", model="smol-a", system_prompt=document, prompt="Say one.", max_tokens=4)
    mapped = LLMOperator.partial(task_id="mapped", model="smol-a", system_prompt=document, max_tokens=4).expand(
        prompt=["Say two.", "Say three.", "Say four."]
    )
    first >> mapped

with DAG("held_document", schedule=None, doc_md=__doc__):
    document = "The tide turns at six. " * 150
    reads = LLMOperator(task_id="first", model="slow-reader", system_prompt=document, prompt="Say one.", max_tokens=4)
    reads >> LLMOperator.partial(task_id="mapped", model="slow-reader", system_prompt=document, max_tokens=4).expand(
        prompt=["Say two.", "Say three.", "Say four."]
    )

with DAG("stored_answer", schedule=None, doc_md=__doc__) as stored:
    long = LLMOperator(
        task_id="long", model="smol-a", prompt="Tell a story.", max_tokens=64,
        model_settings={"extra_body": {"ignore_eos": True}},
    )  # fmt: skip
    again = LLMOperator(
        task_id="again", model="smol-a", prompt="Shorten: {{ ti.xcom_pull(task_ids='long') }}", max_tokens=4
    )

    @task
    def length(story: object) -> int:
        return len(str(story))

    long >> again
    length(long.output)
