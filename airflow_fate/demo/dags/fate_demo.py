"""The demo's DAGs, one for each of two models: a plan, mapped workers, a critic that continues a worker, a summary.

All prompts of a run begin with the run's own document, as their system prompt: whoever answers where that document is
cached need not read it again. Answers are short; what costs is reading.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_fate.operators import LLMOperator

DOCUMENT = "{{ dag_run.conf['document'] }}"
QUESTIONS = [
    "Name the cause in one sentence.",
    "Name the people concerned in one sentence.",
    "Name the cost in one sentence.",
    "Name the next step in one sentence.",
]


def report(dag_id: str, model: str) -> DAG:
    """Seven LLM tasks about one document."""
    with DAG(dag_id, schedule=None, tags=["fate", "demo"], doc_md=__doc__) as dag:
        plan = LLMOperator(
            task_id="plan",
            model=model,
            system_prompt=DOCUMENT,
            prompt="Which question matters most? Answer in one sentence.",
            max_tokens=24,
        )
        worker = LLMOperator.partial(task_id="worker", model=model, system_prompt=DOCUMENT, max_tokens=24).expand(
            prompt=QUESTIONS
        )
        critic = LLMOperator(
            task_id="critic",
            model=model,
            continues="worker[0]",
            prompt="What is missing in your answer?",
            max_tokens=24,
        )
        summary = LLMOperator(
            task_id="summary",
            model=model,
            system_prompt=DOCUMENT,
            prompt="{{ ti.xcom_pull(task_ids='plan') }}\n{{ ti.xcom_pull(task_ids='critic') }}\nSummarize this.",
            max_tokens=32,
        )
        plan >> worker >> critic >> summary
    return dag


incidents = report("fate_demo_incidents", "smol-a")
contracts = report("fate_demo_contracts", "smol-b")
