"""The cluster policy: which tasks get a stage spec, what it says, and what is refused when a DAG is parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.providers.common.ai.operators.agent import AgentOperator
from airflow.providers.common.ai.operators.llm_branch import LLMBranchOperator
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_fate.messages import StageSpec, read_spec
from airflow_fate.operators import LLMOperator
from airflow_fate.operators.policy import task_policy

ROOT = Path(__file__).parents[3]


def spec_of(operator: Any) -> StageSpec | None:
    task_policy(operator)
    return read_spec(operator.executor_config)


def test_an_llm_task_says_what_it_needs() -> None:
    with DAG("d"):
        operator = LLMOperator(
            task_id="t",
            model="m",
            system_prompt="{{ params.document }}",
            prompt="Why?",
            max_tokens=9,
            priority=2,
            executor_config={"KubernetesExecutor": {"x": 1}},
        )
    spec = spec_of(operator)
    assert spec is not None
    assert (spec.model, spec.max_tokens, spec.weight) == ("m", 9, 2)
    assert [(piece.role, piece.path) for piece in spec.prefix] == [("system", ("params", "document")), ("user", ())]
    assert operator.executor_config is not None
    assert operator.executor_config["KubernetesExecutor"] == {"x": 1}


def test_a_mapped_task_shares_what_is_not_mapped() -> None:
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="t", model="m", system_prompt="Shared.").expand(prompt=["a", "b"])
    spec = spec_of(mapped)
    assert spec is not None
    assert [piece.role for piece in spec.prefix] == ["system"]


def test_a_batch_is_counted() -> None:
    with DAG("d"):
        operator = LLMOperator(task_id="t", model="m", prompts=["a", "b", "c"], max_shards=2)
    spec = spec_of(operator)
    assert spec is not None
    assert (spec.prompts, spec.max_shards) == (3, 2)


def test_a_batch_that_another_task_gives_says_which() -> None:
    with DAG("d"):

        @task
        def make() -> list[str]:
            return []

        batch: Any = make()
        whole = LLMOperator(task_id="whole", model="m", prompts=batch)
        part = LLMOperator(task_id="part", model="m", prompts=batch["key"])
        mapped = LLMOperator(task_id="mapped", model="m", prompts=make.override(task_id="each").expand_kwargs([{}]))
    specs = [spec_of(operator) for operator in (whole, part, mapped)]
    assert [spec and (spec.prompts, spec.prompts_from) for spec in specs] == [(None, "make"), (None, ""), (None, "")]


def test_who_looks_no_connection_up_leaves_common_ai_alone() -> None:
    with DAG("d"):
        operator = AgentOperator(task_id="t", prompt="Go.", llm_conn_id="openai", model_id="gpt")
    task_policy(operator)
    assert operator.executor_config is not None
    assert set(operator.executor_config) == {"fate_by_connection"}


def test_a_decorated_function_is_an_llm_task() -> None:
    with DAG("d") as dag:

        @task.fate_llm(model="m", system_prompt="Be brief.")
        def ask() -> str:
            return "What?"

        ask()
    spec = spec_of(dag.get_task("ask"))
    assert spec is not None
    assert spec.model == "m"


COMMON_AI = [AgentOperator, LLMBranchOperator]


@pytest.mark.parametrize("kind", COMMON_AI)
@pytest.mark.parametrize("model", ["m", None])
def test_a_common_ai_operator_says_its_connection_and_leaves_the_rest_to_the_executor(
    kind: type[Any], model: str | None
) -> None:
    with DAG("d"):
        operator = kind(task_id="t", prompt="Go.", llm_conn_id="any", model_id=model)
    spec = spec_of(operator)
    assert spec is not None
    assert (spec.conn_id, spec.only_on_fate, spec.model, spec.problem) == ("any", True, model or "", "")


@pytest.mark.parametrize("kind", COMMON_AI)
def test_a_model_that_only_a_run_knows_is_a_problem_only_on_the_fleet(kind: type[Any]) -> None:
    with DAG("d"):
        operator = kind(task_id="t", prompt="Go.", llm_conn_id="any", model_id="{{ params.model }}")
    spec = spec_of(operator)
    assert spec is not None
    assert "model_id must be a model's name" in spec.problem


@pytest.mark.parametrize("kind", COMMON_AI)
def test_whose_connection_only_a_run_knows_is_not_the_fleets(kind: type[Any]) -> None:
    with DAG("d"):
        operator = kind(task_id="t", prompt="Go.", llm_conn_id="{{ params.connection }}")
    assert spec_of(operator) is None


def test_the_model_may_be_left_to_the_connection() -> None:
    with DAG("d"):
        operator = LLMOperator(task_id="t", prompt="Go.", llm_conn_id="batch")
    spec = spec_of(operator)
    assert spec is not None
    assert (spec.model, spec.conn_id, spec.only_on_fate) == ("", "batch", False)


def test_a_task_of_another_kind_has_no_spec() -> None:
    with DAG("d") as dag:

        @task
        def plain() -> None: ...

        plain()
    assert spec_of(dag.get_task("plain")) is None


def test_what_the_author_configured_of_a_mapped_task_is_kept() -> None:
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="t", model="m", executor_config={"other": 1}).expand(prompt=["a"])
    task_policy(mapped)
    assert mapped.executor_config["other"] == 1


def test_how_long_a_mapped_batch_is_is_not_known() -> None:
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="t", model="m").expand(prompts=[["a", "b"], ["c"]])
    spec = spec_of(mapped)
    assert spec is not None
    assert spec.prompts is None


def test_a_spec_reaches_the_scheduler_through_airflows_serialization() -> None:
    with DAG("d", schedule=None) as dag:
        first = LLMOperator(task_id="first", model="m", system_prompt="Shared.", prompt="a", max_tokens=9)
        mapped = LLMOperator.partial(task_id="mapped", model="m", system_prompt="Shared.").expand(prompt=["b", "c"])
        last = LLMOperator(task_id="last", model="m", prompt="d", continues="mapped[1]")
        first >> mapped >> last
    before = {operator.task_id: spec_of(operator) for operator in dag.tasks}
    read = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    after = {name: read_spec(operator.executor_config) for name, operator in read.task_dict.items()}
    assert None not in before.values()
    assert after == before


@pytest.mark.parametrize("named", ["first", "first[2]"])
def test_continues_names_an_upstream_task(named: str) -> None:
    with DAG("d"):
        first = LLMOperator(task_id="first", model="m", prompt="a")
        second = LLMOperator(task_id="second", model="m", prompt="b", continues=named)
        first >> second
    spec = spec_of(second)
    assert spec is not None
    assert spec.continues == named


def test_a_task_given_to_continues_becomes_upstream() -> None:
    with DAG("d"):
        first = LLMOperator(task_id="first", model="m", prompt="a")
        second = LLMOperator(task_id="second", model="m", prompt="b", continues=first)
    assert second.upstream_task_ids == {"first"}


def test_a_task_given_to_a_mapped_continues_becomes_upstream() -> None:
    with DAG("d", schedule=None) as dag:
        first = LLMOperator(task_id="first", model="m", prompt="a")
        mapped = LLMOperator.partial(task_id="mapped", model="m", continues=first).expand(prompt=["b", "c"])
    spec = spec_of(mapped)
    assert spec is not None
    assert spec.continues == "first"
    assert (mapped.upstream_task_ids, first.downstream_task_ids) == ({"first"}, {"mapped"})
    read = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert read.task_dict["mapped"].upstream_task_ids == {"first"}
    unmapped = mapped.unmap({"prompt": "b"})
    assert isinstance(unmapped, LLMOperator)
    assert unmapped.continues == "first"


def test_a_mapped_function_continues_what_another_function_gave_back() -> None:
    with DAG("d") as dag:

        @task.fate_llm(model="m")
        def first() -> str:
            return "a"

        @task.fate_llm(model="m", continues=first())
        def second(text: str) -> str:
            return text

        second.expand(text=["b", "c"])
    spec = spec_of(dag.get_task("second"))
    assert spec is not None
    assert spec.continues == "first"
    assert dag.get_task("second").upstream_task_ids == {"first"}


def test_a_mapped_task_can_not_continue_what_follows_it() -> None:
    with DAG("d"):
        later = LLMOperator(task_id="later", model="m", prompt="a")
        mapped = LLMOperator.partial(task_id="mapped", model="m", continues=later).expand(prompt=["b"])
        mapped >> later
    with pytest.raises(AirflowClusterPolicyViolation, match="mapped: continues must name an upstream task"):
        task_policy(mapped)
    assert mapped.upstream_task_ids == set()


@pytest.mark.parametrize("given", [3, ["first"], object])
def test_continues_of_something_that_is_no_task_is_refused(given: Any) -> None:
    with DAG("d"):
        mapped = LLMOperator.partial(task_id="mapped", model="m", continues=given).expand(prompt=["b"])
        with pytest.raises(ValueError, match="continues must be an upstream task or its id, got"):
            LLMOperator(task_id="plain", model="m", prompt="a", continues=given)
    with pytest.raises(AirflowClusterPolicyViolation, match="mapped: continues must be an upstream task or its id"):
        task_policy(mapped)


def test_continues_can_not_be_mapped_over() -> None:
    with DAG("d"):
        LLMOperator(task_id="first", model="m", prompt="a")
        mapped = LLMOperator.partial(task_id="mapped", model="m", prompt="b").expand(continues=["first"])
    with pytest.raises(AirflowClusterPolicyViolation, match=r"mapped: continues can't be mapped over"):
        task_policy(mapped)


def test_continues_of_a_task_that_is_not_upstream_is_refused() -> None:
    with DAG("d"):
        LLMOperator(task_id="first", model="m", prompt="a")
        second = LLMOperator(task_id="second", model="m", prompt="b", continues="first")
    with pytest.raises(AirflowClusterPolicyViolation, match="second: continues must name an upstream task") as caught:
        task_policy(second)
    assert "got 'first', upstream are []" in str(caught.value)


@pytest.mark.parametrize("parent", ["plain", "common", "batch"])
def test_what_leaves_no_conversation_can_not_be_continued(parent: str) -> None:
    with DAG("d") as dag:

        @task
        def plain() -> None: ...

        plain()
        AgentOperator(task_id="common", prompt="a", llm_conn_id="fate_default")
        LLMOperator(task_id="batch", model="m", prompts=["a"])
        child = LLMOperator(task_id="child", model="m", prompt="b", continues=parent)
        dag.get_task(parent) >> child
    with pytest.raises(AirflowClusterPolicyViolation, match=f"only these leave a conversation; got '{parent}'"):
        task_policy(child)


def test_a_templated_model_is_refused() -> None:
    with DAG("d"):
        operator = LLMOperator(task_id="t", model="{{ params.model }}", prompt="a")
    with pytest.raises(AirflowClusterPolicyViolation, match="model must be a model's name"):
        task_policy(operator)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompts": []}, "at least one prompt"),
        ({}, "either prompt"),
        ({"prompt": "a", "prompts": ["b"]}, "either prompt"),
        ({"prompts": ["a"], "require_approval": True}, "can't be combined"),
    ],
)
def test_bad_parameters_are_refused_when_the_dag_is_parsed(fields: dict[str, Any], says: str) -> None:
    with DAG("d"), pytest.raises(ValueError, match=says):
        LLMOperator(task_id="t", model="m", **fields)


@pytest.mark.parametrize("folder", ["dags_examples", "airflow_fate/demo/dags"])
def test_the_dags_we_ship_parse(folder: str) -> None:
    bag = DagBag(str(ROOT / folder))
    assert bag.import_errors == {}
    assert bag.dags


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": 3}, "t: prompt must be a text, got 3"),
        ({"prompt": {"role": "user"}}, "t: prompt must be a text"),
        ({"prompts": "hello"}, "t: prompts must be a list of texts, got 'hello'"),
        ({"prompt": "a", "system_prompt": 5}, "t: system_prompt must be a text, got 5"),
        ({"prompt": "a", "output_type": "dict"}, "t: output_type must be a type"),
    ],
)
@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_value_of_another_kind_is_refused_when_the_dag_is_parsed(
    fields: dict[str, Any], says: str, is_mapped: bool
) -> None:
    with DAG("d"):
        if is_mapped:
            operator: Any = LLMOperator.partial(task_id="t", model="m", **fields).expand(usage_limits=[None])
        else:
            operator = LLMOperator(task_id="t", model="m", **fields)
    with pytest.raises(AirflowClusterPolicyViolation) as caught:
        task_policy(operator)
    assert says in str(caught.value)
