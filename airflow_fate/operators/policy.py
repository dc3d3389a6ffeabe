"""Who adds the stage spec? A cluster policy, wherever Airflow parses a DAG, for our operators and common-ai's.

It refuses what can never work, so that the DAG shows an import error.

Of which type a connection is, it doesn't look up: the executor does, when the task is queued.
"""

from __future__ import annotations

from typing import Any

from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.policies import hookimpl

from airflow_fate.messages import SpecError
from airflow_fate.operators.spec import continued, leaves_conversation, put_spec, stage_spec


@hookimpl
def task_policy(task: Any) -> None:
    """Entry point ``airflow.policy``: called for every task of a parsed DAG."""
    try:
        spec = stage_spec(task)
    except SpecError as error:
        raise AirflowClusterPolicyViolation(f"FATE: {error}") from error
    if spec is None:
        return
    if spec.continues is not None:
        _link_continued(task)
        _check_continues(task, spec.continues)
    put_spec(task, spec)


def _link_continued(task: Any) -> None:
    """A mapped operator has run no ``__init__`` that would have made the task it was given its upstream."""
    arguments = getattr(task, "partial_kwargs", {})
    named, parent = continued(arguments.get("continues"))
    if parent is None:
        return
    if named not in {task.task_id, *task.get_flat_relative_ids(upstream=False)}:
        # Airflow has looked for cycles already.
        task.set_upstream(parent)
    arguments["continues"] = named


def _check_continues(task: Any, named: str) -> None:
    parent = named.partition("[")[0]
    upstream = task.get_flat_relative_ids(upstream=True)
    if parent not in upstream:
        raise AirflowClusterPolicyViolation(
            f"FATE: {task.task_id}: continues must name an upstream task, whose conversation there is when this one "
            f"starts; got {named!r}, upstream are {sorted(upstream)}"
        )
    if not leaves_conversation(task.dag.get_task(parent)):
        raise AirflowClusterPolicyViolation(
            f"FATE: {task.task_id}: continues must name an LLMOperator or @task.fate_llm with one prompt, for only "
            f"these leave a conversation; got {named!r}"
        )
