"""For FateExecutor beside another executor: tasks say which one they want."""

from __future__ import annotations

from airflow.configuration import conf
from airflow.sdk import DAG, task

from airflow_fate.operators import LLMOperator

FATE = "airflow_fate.executor.FateExecutor"
# Airflow refuses an executor that isn't configured, so elsewhere the tasks take the one that is.
ours = FATE if "," in conf.get("core", "executor") else None

with DAG("beside", schedule=None, doc_md=__doc__) as dag:

    @task
    def theirs() -> str:
        return "theirs"

    theirs() >> LLMOperator(task_id="ours", model="smol-a", prompt="Say hello.", max_tokens=4, executor=ours)
