"""Every parameter by every way in which a DAG can say it: honoured, or refused with its name; never lost in silence.

The table is the one in docs/operators.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.providers.common.ai.operators.agent import AgentOperator
from airflow.sdk import DAG, TaskGroup, task, task_group

from airflow_fate.messages import StageSpec, read_spec
from airflow_fate.operators import LLMOperator
from airflow_fate.operators.policy import task_policy

DOCS = Path(__file__).parents[3] / "docs" / "operators.md"
VALUES: dict[str, Any] = {
    "model": "other",
    "llm_conn_id": "other_conn",
    "prompt": "a prompt",
    "prompts": ["one", "two"],
    "system_prompt": "a system prompt",
    "continues": "parent",
    "max_shards": 3,
    "max_tokens": 77,
    "expected_output_tokens": 55,
    "priority": 2.5,
    "tenant": "a tenant",
    "model_settings": {"max_tokens": 33},
    "output_type": int,
}
IN_SPEC: dict[str, Callable[[StageSpec], Any]] = {
    "model": lambda spec: spec.model,
    "llm_conn_id": lambda spec: spec.conn_id,
    "continues": lambda spec: spec.continues,
    "max_shards": lambda spec: spec.max_shards,
    "max_tokens": lambda spec: spec.max_tokens,
    "expected_output_tokens": lambda spec: spec.expected_output_tokens,
    "priority": lambda spec: spec.weight,
    "tenant": lambda spec: spec.tenant,
}


def fields(parameter: str, value: Any) -> dict[str, Any]:
    """What an operator needs besides."""
    base = {} if parameter in ("prompt", "prompts") else {"prompt": "hello"}
    return base | ({} if parameter == "model" else {"model": "m"}) | {parameter: value}


def without(parameter: str) -> dict[str, Any]:
    """The same, but for the parameter itself."""
    others = fields(parameter, None)
    del others[parameter]
    return others


def parent() -> LLMOperator:
    return LLMOperator(task_id="parent", model="m", prompt="first")


def by_argument(parameter: str, value: Any) -> Any:
    with DAG("d"):
        operator = LLMOperator(task_id="t", **fields(parameter, value))
        parent() >> operator
    return operator, operator


def by_dag_default(parameter: str, value: Any) -> Any:
    with DAG("d", default_args={parameter: value}):
        operator = LLMOperator(task_id="t", **without(parameter))
        if parameter == "continues":
            LLMOperator(task_id="parent", model="m", prompt="first", continues=None) >> operator
    return operator, operator


def by_dag_default_of_a_mapped_task(parameter: str, value: Any) -> Any:
    over = "system_prompt" if parameter in ("prompt", "prompts") else "prompt"
    with DAG("d", default_args={parameter: value}):
        given = {name: argument for name, argument in without(parameter).items() if name != over}
        mapped = LLMOperator.partial(task_id="t", **given).expand(**{over: ["x", "y"]})
        if parameter == "continues":
            LLMOperator(task_id="parent", model="m", prompt="first", continues=None) >> mapped
    return mapped, mapped.unmap({over: "x"})


def by_group_default(parameter: str, value: Any) -> Any:
    defaults: Any = {parameter: value}
    with DAG("d"):
        first = parent()
        with TaskGroup("g", default_args=defaults):
            operator = LLMOperator(task_id="t", **without(parameter))
        first >> operator
    return operator, operator


def by_partial(parameter: str, value: Any) -> Any:
    over = "system_prompt" if parameter in ("prompt", "prompts") else "prompt"
    given = {name: argument for name, argument in fields(parameter, value).items() if name != over}
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="t", **given).expand(**{over: ["x", "y"]})
        parent() >> mapped
    return mapped, mapped.unmap({over: "x"})


def by_expand(parameter: str, value: Any) -> Any:
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="t", **without(parameter)).expand(**{parameter: [value, value]})
        parent() >> mapped
    return mapped, mapped.unmap({parameter: value})


def by_expand_kwargs(parameter: str, value: Any) -> Any:
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="t", **without(parameter)).expand_kwargs([{parameter: value}] * 2)
        parent() >> mapped
    return mapped, mapped.unmap({parameter: value})


def by_mapped_group(parameter: str, value: Any) -> Any:
    operators: list[Any] = []
    with DAG("d"):

        @task_group
        def group(argument: Any) -> None:
            operators.append(LLMOperator(task_id="t", **fields(parameter, argument)))

        first = parent()
        first >> group.expand(argument=[value, value])
    # What an instance gets is rendered from the group's argument.
    return operators[0], None


def by_xcom(parameter: str, value: Any) -> Any:
    with DAG("d"):

        @task
        def make() -> Any:
            return value

        operator = LLMOperator(task_id="t", **fields(parameter, make()))
        parent() >> operator
    return operator, None


def by_override(parameter: str, value: Any) -> Any:
    with DAG("d") as dag:

        @task.fate_llm(task_id="t", model="m")
        def ask() -> str:
            return "hello"

        parent() >> ask.override(**{parameter: value})()
    return dag.get_task("t"), dag.get_task("t")


WAYS: dict[str, Callable[[str, Any], Any]] = {
    "argument": by_argument,
    "`default_args` of the DAG": by_dag_default,
    "`default_args`, mapped": by_dag_default_of_a_mapped_task,
    "`default_args` of a group": by_group_default,
    "`partial`": by_partial,
    "`expand`": by_expand,
    "`expand_kwargs`": by_expand_kwargs,
    "mapped group's argument": by_mapped_group,
    "another task's result": by_xcom,
    "`override`": by_override,
}


def table() -> Mapping[tuple[str, str], str]:
    """(parameter, way) -> what the docs say of it."""
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("|")]
    start = next(index for index, line in enumerate(rows) if "| argument |" in line)
    head = [cell.strip() for cell in rows[start].strip("|").split("|")][1:]
    outcomes: dict[tuple[str, str], str] = {}
    for line in rows[start + 2 :]:
        names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if len(cells) != len(head):
            break
        outcomes |= {
            (name, way): cell for name in re.findall(r"`(\w+)`", names) for way, cell in zip(head, cells, strict=True)
        }
    return outcomes


TABLE = table()


def test_the_docs_have_every_parameter_and_every_way() -> None:
    assert {parameter for parameter, _ in TABLE} == set(VALUES)
    assert {way for _, way in TABLE} == set(WAYS)
    assert set(TABLE.values()) <= {"yes", "refused", "–"}


@pytest.mark.parametrize(("parameter", "way"), [key for key, cell in TABLE.items() if cell != "–"])
def test_a_parameter_is_honoured_or_refused_as_the_docs_say(parameter: str, way: str) -> None:
    value = VALUES[parameter]
    if TABLE[parameter, way] == "refused":
        with pytest.raises((AirflowClusterPolicyViolation, ValueError, TypeError), match=f"(?s).*{parameter}"):
            task_policy(WAYS[way](parameter, value)[0])
        return
    operator, instance = WAYS[way](parameter, value)
    task_policy(operator)
    spec = read_spec(operator.executor_config)
    assert spec is not None
    if parameter in IN_SPEC:
        assert IN_SPEC[parameter](spec) == value
    if instance is not None:
        assert getattr(instance, parameter) == value


# common-ai's operators


def agents(**arguments: Any) -> dict[str, Callable[[], Any]]:
    base = {"prompt": "Go.", "llm_conn_id": "c"}
    return {
        "argument": lambda: AgentOperator(task_id="t", **(base | arguments)),
        "partial": lambda: AgentOperator.partial(
            task_id="t", **{name: value for name, value in (base | arguments).items() if name != "prompt"}
        ).expand(prompt=["a"]),
    }


@pytest.mark.parametrize("way", ["argument", "partial"])
def test_a_common_ai_operators_model_and_connection_are_honoured(way: str) -> None:
    with DAG("d"):
        operator = agents(model_id="m")[way]()
    task_policy(operator)
    spec = read_spec(operator.executor_config)
    assert spec is not None
    assert (spec.model, spec.conn_id) == ("m", "c")


def test_a_common_ai_operators_defaults_are_honoured_when_it_is_mapped() -> None:
    with DAG("d", default_args={"model_id": "m", "llm_conn_id": "c"}):
        operator = AgentOperator.partial(task_id="t").expand(prompt=["a"])
    task_policy(operator)
    spec = read_spec(operator.executor_config)
    assert spec is not None
    assert (spec.model, spec.conn_id) == ("m", "c")


def test_a_common_ai_operator_mapped_over_models_is_refused_on_the_fleet() -> None:
    with DAG("d"):
        operator = AgentOperator.partial(task_id="t", prompt="Go.", llm_conn_id="c").expand(model_id=["a", "b"])
    task_policy(operator)
    spec = read_spec(operator.executor_config)
    assert spec is not None
    assert "model_id can't be mapped over" in spec.problem


def test_a_functions_argument_may_have_a_parameters_name() -> None:
    with DAG("d") as dag:

        @task.fate_llm(model="m")
        def ask(tenant: str) -> str:
            return tenant

        ask.expand(tenant=["a", "b"])
    operator = dag.get_task("ask")
    task_policy(operator)
    spec = read_spec(operator.executor_config)
    assert spec is not None
    assert spec.tenant == ""
