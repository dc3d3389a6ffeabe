"""Debate and judge: two sides argue from the same brief, each answers the other, a larger model decides.

Each side's second turn ``continues`` its first, so the engine that heard the first has the conversation cached.
Trigger it with ``{"question": "..."}``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_fate.operators import LLMOperator

BRIEF = "You take part in a debate. Be concrete and brief. The question is: {{ params.question }}"

with DAG(
    "debate_and_judge",
    schedule=None,
    params={"question": "Should a city run its own buses?"},
    doc_md=__doc__,
    tags=["fate"],
) as dag:
    opening = {
        side: LLMOperator(
            task_id=f"open_{side}",
            model="smol-a",
            system_prompt=BRIEF,
            prompt=f"Argue {side} the proposal in two sentences.",
            max_tokens=48,
        )
        for side in ("for", "against")
    }
    reply = {
        side: LLMOperator(
            task_id=f"reply_{side}",
            model="smol-a",
            continues=opening[side],
            prompt="The other side says: {{ ti.xcom_pull(task_ids='open_"
            + other
            + "') }}\nAnswer it in two sentences.",
            max_tokens=48,
        )
        for side, other in (("for", "against"), ("against", "for"))
    }
    judge = LLMOperator(
        task_id="judge",
        model="smol-b",
        system_prompt=BRIEF,
        prompt=(
            "For: {{ ti.xcom_pull(task_ids='reply_for') }}\nAgainst: {{ ti.xcom_pull(task_ids='reply_against') }}\n"
            "Who argued better? Answer in one sentence."
        ),
        max_tokens=32,
        priority=2,
    )
    for side, other in (("for", "against"), ("against", "for")):
        opening[other] >> reply[side] >> judge
