"""Map-reduce summarization: every section is summarized at once, then the summaries are.

Trigger it with ``{"sections": ["first section ...", "second section ..."]}``.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_fate.operators import LLMOperator

INSTRUCTIONS = (
    "You are an editor. You shorten reports for readers who have one minute. You keep names, numbers and dates, "
    "you leave out opinions, and you never add anything that the text does not say."
)

with DAG("map_reduce_summary", schedule=None, params={"sections": []}, doc_md=__doc__, tags=["fate"]) as dag:

    @task
    def prompts(params: dict) -> list[str]:
        sections = params["sections"]
        if not sections:
            raise ValueError('give the run a configuration such as {"sections": ["first ...", "second ..."]}')
        return [f"Summarize this section in one sentence:\n\n{section}" for section in sections]

    # What all prompts share comes first, so that each engine reads it once.
    summarize = LLMOperator.partial(
        task_id="summarize", model="smol-a", system_prompt=INSTRUCTIONS, max_tokens=40
    ).expand(prompt=prompts())

    combine = LLMOperator(
        task_id="combine",
        model="smol-a",
        system_prompt=INSTRUCTIONS,
        prompt=(
            "Combine these summaries into one paragraph:\n"
            "{% for line in ti.xcom_pull(task_ids='summarize') %}- {{ line }}\n{% endfor %}"
        ),
        max_tokens=80,
    )
    summarize >> combine
