"""Who adds the stage spec? A cluster policy, wherever Airflow parses a DAG: for our operator, mapped or not, and for
common-ai's operators with a ``fate`` connection. It refuses what can never work, so that the DAG shows an import error.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.policies import hookimpl

from airflow_fate.messages import SpecError
from airflow_fate.operators.spec import continued, put_spec, stage_spec


@cache
def _conn_ids() -> frozenset[str]:
    from airflow.configuration import conf

    listed = conf.get("fate", "conn_ids", fallback="fate_default")
    return frozenset(name.strip() for name in listed.split(",") if name.strip())


@hookimpl
def task_policy(task: Any) -> None:
    """Entry point ``airflow.policy``: called for every task of a parsed DAG."""
    try:
        spec = stage_spec(task, _conn_ids())
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
    if named.partition("[")[0] not in task.get_flat_relative_ids(upstream=True):
        raise AirflowClusterPolicyViolation(
            f"FATE: {task.task_id}: continues must name an upstream task, whose conversation there is when this one "
            f"starts; got {named!r}, upstream are {sorted(task.get_flat_relative_ids(upstream=True))}"
        )
