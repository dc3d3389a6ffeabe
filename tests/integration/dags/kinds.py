"""Every kind of task that the executor meets, in one run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from airflow.providers.common.ai.operators.agent import AgentOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, Context, task
from airflow.task.trigger_rule import TriggerRule
from pydantic import BaseModel

from airflow_fate.operators import LLMOperator

DOCUMENT = "{{ dag_run.conf['document'] }}"


class DeferringLLM(LLMOperator):
    """Waits in the triggerer first, then asks: one try that is bound twice."""

    def execute(self, context: Context) -> Any:
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context: Context, event: Any = None) -> Any:
        return super().execute(context)


class Verdict(BaseModel):
    """Few possible texts, so that a tiny model arrives at the end."""

    is_good: bool
    kind: Literal["sea", "land"]


class FlakyLLM(LLMOperator):
    """Its first try fails after it was answered."""

    def execute(self, context: Context) -> Any:
        answer = super().execute(context)
        if context["ti"].try_number == 1:
            raise RuntimeError("the first try fails")
        return answer


with DAG("kinds", schedule=None, doc_md=__doc__) as dag:

    @task
    def plain() -> list[str]:
        return ["Say one.", "Say two.", "Say three."]

    questions = plain()
    mapped = LLMOperator.partial(task_id="mapped", model="smol-a", system_prompt=DOCUMENT, max_tokens=4).expand(
        prompt=questions
    )
    follows = LLMOperator(task_id="follows", model="smol-a", continues="mapped[1]", prompt="And then?", max_tokens=4)
    batch = LLMOperator(
        task_id="batch", model="smol-a", prompts=["Say a.", "Say b.", "Say c.", "Say d."], max_shards=2, max_tokens=4
    )
    other_model = LLMOperator(task_id="other_model", model="smol-b", prompt="Say hello.", max_tokens=4)
    retried = FlakyLLM(
        task_id="retried", model="smol-a", prompt="Again.", max_tokens=4, retries=1, retry_delay=timedelta(0)
    )
    deferred = DeferringLLM(task_id="deferred", model="smol-a", prompt="Later.", max_tokens=4)
    agent = AgentOperator(
        task_id="agent", llm_conn_id="fate_default", model_id="smol-a", prompt="Say hi.", system_prompt="Be brief.",
        agent_params={"model_settings": {"max_tokens": 8}},
    )  # fmt: skip

    structured = LLMOperator(task_id="structured", model="smol-a", prompt="Is a ferry good?", output_type=Verdict)
    structured_batch = LLMOperator(
        task_id="structured_batch", model="smol-a", prompts=["Is rain good?", "Is snow good?"], output_type=Verdict
    )

    @task
    def reads(one: Verdict, many: list[Verdict]) -> list[str]:
        return [verdict.kind for verdict in (one, *many)]

    @task.fate_llm(model="smol-a", max_tokens=4)
    def decorated() -> str:
        return "Say yes."

    @task
    def nothing() -> list[str]:
        return []

    empty = LLMOperator(task_id="empty_batch", model="smol-a", prompts=nothing(), retries=3)
    given = LLMOperator(task_id="given_batch", model="smol-a", prompts=questions, max_tokens=4)

    @task
    def failing() -> None:
        raise RuntimeError("fails as it should")

    fails = failing()
    unknown = LLMOperator(task_id="unknown_model", model="nobody-has-it", prompt="Hello?", retries=3)
    too_large = LLMOperator(task_id="too_large", model="giant", prompt="Hello?", retries=3)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def last() -> str:
        return "done"

    mapped >> follows
    # An output stands for a task's answer, which its type doesn't say.
    read = reads(structured.output, structured_batch.output)  # type: ignore[arg-type]
    short = [read, follows, batch, given, other_model, retried, deferred, agent, decorated()]
    [*short, empty, fails, unknown, too_large] >> last()
