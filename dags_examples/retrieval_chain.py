"""A retrieval chain: find passages, answer from them, then let the same conversation check its own answer.

``check`` continues ``answer``, so passages, question and answer are in the prefix cache of the engine that answered.
Trigger it with ``{"question": "...", "passages": ["...", "..."]}``.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_fate.operators import LLMOperator

with DAG(
    "retrieval_chain",
    schedule=None,
    params={
        "question": "When does the museum open?",
        "passages": ["The museum opens at nine.", "Tickets cost eight euros.", "Dogs must wait outside."],
    },
    doc_md=__doc__,
    tags=["fate"],
) as dag:

    @task
    def retrieve(params: dict) -> str:
        """The passages that share most words with the question; put your vector store here."""
        asked = set(params["question"].lower().strip("?").split())
        ranked = sorted(params["passages"], key=lambda text: -len(asked & set(text.lower().strip(".").split())))
        return "\n".join(ranked[:2])

    passages = retrieve()

    answer = LLMOperator(
        task_id="answer",
        model="smol-a",
        system_prompt="Answer only from these passages:\n{{ ti.xcom_pull(task_ids='retrieve') }}",
        prompt="{{ params.question }}",
        max_tokens=32,
    )

    @task.fate_llm(model="smol-a", continues="answer", max_tokens=32)
    def check() -> str:
        return "Which passage says so? Quote it."

    passages >> answer >> check()
