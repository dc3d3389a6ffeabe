"""A task on the fleet: it asks where it is bound, continues conversations, and says clearly why it can't run."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException
from pydantic import BaseModel

from airflow_fate.messages import STATS_KEY, StageSpec, locked, new_seal_key, verified_facts
from airflow_fate.operators import LLMOperator
from airflow_fate.operators.batch import ANSWERS_KEY, Answers, PromptsFailed
from airflow_fate.operators.llm import CONVERSATION_KEY
from airflow_fate.operators.stored import StoredText
from tests.unit.operators.helpers import SECRET, Gateway, Xcoms, bound, run


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FATE_DEFAULT", '{"conn_type": "fate"}')


def llm(task_id: str = "t", **fields: Any) -> LLMOperator:
    return LLMOperator(task_id=task_id, model="m", **({"prompt": "hello"} | fields))


def batch(*prompts: str) -> LLMOperator:
    return LLMOperator(task_id="t", model="m", prompts=list(prompts), max_shards=2)


def pair(**child: Any) -> tuple[LLMOperator, LLMOperator]:
    """A task with a system prompt, and one that continues it."""
    with DAG("d"):
        parent = llm("parent", prompt="first", system_prompt="Be brief.")
        return parent, llm("child", prompt="second", continues=parent, **child)


def roles_and_texts(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in body["messages"]]


def test_a_bound_task_asks_its_device_with_its_token(gateway: Gateway) -> None:
    answer, _ = run(llm(system_prompt="Be brief.", max_tokens=7), bound(gateway.share()))
    assert answer == "gpu-0 heard hello"
    assert gateway.tokens == ["Bearer token-gpu-0"]
    (body,) = gateway.asked
    assert body["model"] == "m"
    assert roles_and_texts(body) == [("system", "Be brief."), ("user", "hello")]
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_a_device_that_fails_is_asked_once(gateway: Gateway) -> None:
    gateway.failing.add("chat")
    with pytest.raises(Exception, match="500"):
        run(llm(), bound(gateway.share()))
    assert len(gateway.asked) == 1


def test_what_the_gateway_measured_is_stored(gateway: Gateway) -> None:
    _, store = run(llm(), bound(gateway.share()))
    measured = [verified_facts(signed, SECRET) for signed in store[STATS_KEY]]
    assert [(facts.device, facts.requests) for facts in measured] == [("gpu-0", 1)]


def test_an_answer_stands_when_the_facts_are_missing(gateway: Gateway) -> None:
    gateway.failing.add("facts")
    answer, store = run(llm(), bound(gateway.share()))
    assert answer == "gpu-0 heard hello"
    assert store[STATS_KEY] == []


def test_what_a_decorated_function_returns_is_text_and_no_template(gateway: Gateway) -> None:
    with DAG("d") as dag:

        @task.fate_llm(model="m", system_prompt="{{ ti.task_id }}")
        def ask() -> str:
            return "a document with {{ braces }} and {% tags"

        ask()
    answer, _ = run(dag.get_task("ask"), bound(gateway.share()))
    assert answer == "gpu-0 heard a document with {{ braces }} and {% tags"
    assert roles_and_texts(gateway.asked[0])[0] == ("system", "ask")


def test_no_proxy_of_the_environment_sees_prompts_or_tokens(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__FATE__XCOM_LIMIT_BYTES", "10")
    # Nobody listens there: whatever went that way would fail.
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with DAG("d"):
        first, second = llm("first"), llm("second", prompt="{{ ti.xcom_pull(task_ids='first') }}!")
    xcoms = Xcoms()
    answer, store = run(first, bound(gateway.share()), xcoms)
    assert isinstance(answer, StoredText)
    assert len(store[STATS_KEY]) == 1
    run(second, bound(gateway.share()), xcoms)
    assert gateway.prompts[-1] == "gpu-0 heard hello!"


# Batches


def test_a_batch_keeps_its_order_over_two_devices(gateway: Gateway, other: Gateway) -> None:
    answers, store = run(batch("a", "b", "c"), bound(gateway.share(2), other.share(1)))
    assert answers == ["gpu-0 heard a", "gpu-0 heard b", "gpu-1 heard c"]
    assert (sorted(gateway.prompts), other.prompts) == (["a", "b"], ["c"])
    measured = [verified_facts(signed, SECRET) for signed in store[STATS_KEY]]
    assert {facts.device: facts.requests for facts in measured} == {"gpu-0": 2, "gpu-1": 1}


def test_the_last_device_takes_what_was_not_planned_for(gateway: Gateway, other: Gateway) -> None:
    answers, _ = run(batch("a", "b", "c"), bound(gateway.share(1), other.share(1)))
    assert answers == ["gpu-0 heard a", "gpu-1 heard b", "gpu-1 heard c"]


def test_a_batch_shorter_than_planned_leaves_the_last_device_alone(gateway: Gateway, other: Gateway) -> None:
    assert run(batch("a"), bound(gateway.share(1), other.share(1)))[0] == ["gpu-0 heard a"]
    assert other.asked == []


def test_a_template_that_makes_an_empty_batch_is_refused(gateway: Gateway) -> None:
    operator = LLMOperator(task_id="t", model="m", prompts="{{ params.none }}")
    with pytest.raises(ValueError, match="at least one prompt"):
        run(operator, bound(gateway.share()))
    assert gateway.asked == []


def test_a_request_that_no_device_would_serve_fails_for_good_in_one_sentence(gateway: Gateway) -> None:
    gateway.refused.add("hello")
    with pytest.raises(AirflowFailException, match=r"would be on any device: no$"):
        run(llm(), bound(gateway.share()))
    gateway.refused.add("b")
    with pytest.raises(AirflowFailException, match="1 of 2 prompts failed"):
        run(batch("a", "b"), bound(gateway.share(2)))


def test_one_failed_prompt_loses_no_other_answer(gateway: Gateway) -> None:
    gateway.unlucky.add("b")
    store: dict[str, Any] = {}
    with pytest.raises(PromptsFailed, match=r"1 of 3 prompts failed, the first of them prompts\[1\]"):
        run(batch("a", "b", "c"), bound(gateway.share(3)), store=store)
    gateway.unlucky.clear()
    answers, _ = run(batch("a", "b", "c"), bound(gateway.share(3)), store=store)
    assert answers == ["gpu-0 heard a", "gpu-0 heard b", "gpu-0 heard c"]
    assert sorted(gateway.prompts) == ["a", "b", "b", "c"]


def test_who_writes_the_store_answers_nothing_in_the_models_place(gateway: Gateway) -> None:
    gateway.unlucky.add("b")
    store: dict[str, Any] = {}
    with pytest.raises(PromptsFailed):
        run(batch("a", "b"), bound(gateway.share(2)), store=store)
    gateway.unlucky.clear()
    answers = Answers(["a", "b"], str)
    answers.known = {0: "forged", 1: "forged"}
    for forged in (answers.kept(), locked(answers.kept() or "", new_seal_key()), 5, {"url": gateway.url}):
        store[ANSWERS_KEY] = forged
        assert run(batch("a", "b"), bound(gateway.share(2)), store=store)[0] == ["gpu-0 heard a", "gpu-0 heard b"]


def test_answers_to_other_prompts_are_not_taken_for_these(gateway: Gateway) -> None:
    gateway.unlucky.add("b")
    store: dict[str, Any] = {}
    with pytest.raises(PromptsFailed):
        run(batch("a", "b"), bound(gateway.share(2)), store=store)
    assert run(batch("x", "y"), bound(gateway.share(2)), store=store)[0] == ["gpu-0 heard x", "gpu-0 heard y"]


class Fact(BaseModel):
    """What the answers of a batch are read as."""

    text: str


@pytest.mark.parametrize("serialize", [False, True])
def test_a_batch_has_values_as_one_prompt_has(gateway: Gateway, serialize: bool) -> None:
    gateway.answer = '{"text": "yes"}'
    operator = LLMOperator(task_id="t", model="m", prompts=["a", "b"], output_type=Fact, serialize_output=serialize)
    answers, _ = run(operator, bound(gateway.share(2)))
    assert answers == ([{"text": "yes"}] * 2 if serialize else [Fact(text="yes")] * 2)
    assert gateway.asked[0]["response_format"]["type"] == "json_schema"


def test_kept_answers_are_values_again(gateway: Gateway) -> None:
    gateway.answer = '{"text": "yes"}'
    gateway.unlucky.add("b")
    store: dict[str, Any] = {}
    operator = LLMOperator(task_id="t", model="m", prompts=["a", "b"], output_type=Fact)
    with pytest.raises(PromptsFailed):
        run(operator, bound(gateway.share(2)), store=store)
    gateway.unlucky.clear()
    assert run(operator, bound(gateway.share(2)), store=store)[0] == [Fact(text="yes")] * 2


def test_each_prompt_of_a_batch_continues_the_conversation(gateway: Gateway) -> None:
    with DAG("d"):
        parent = llm("parent", prompt="first", system_prompt="Be brief.")
        child = LLMOperator(task_id="child", model="m", prompts=["a", "b"], continues=parent)
    xcoms = Xcoms()
    run(parent, bound(gateway.share()), xcoms)
    run(child, bound(gateway.share(2)), xcoms)
    for body in gateway.asked[1:]:
        assert roles_and_texts(body)[:3] == [
            ("system", "Be brief."),
            ("user", "first"),
            ("assistant", "gpu-0 heard first"),
        ]


# Conversations


def test_a_continued_conversation_comes_first_under_its_own_system_prompt(gateway: Gateway) -> None:
    parent, child = pair()
    xcoms = Xcoms()
    run(parent, bound(gateway.share()), xcoms)
    run(child, bound(gateway.share()), xcoms)
    assert roles_and_texts(gateway.asked[1]) == [
        ("system", "Be brief."),
        ("user", "first"),
        ("assistant", "gpu-0 heard first"),
        ("user", "second"),
    ]


def test_a_system_prompt_of_its_own_replaces_that_of_the_conversation(gateway: Gateway) -> None:
    parent, child = pair(system_prompt="Be long.")
    xcoms = Xcoms()
    run(parent, bound(gateway.share()), xcoms)
    run(child, bound(gateway.share()), xcoms)
    systems = [text for role, text in roles_and_texts(gateway.asked[1]) if role == "system"]
    assert systems == ["Be long."]


def test_a_conversation_that_nobody_continues_is_not_kept(gateway: Gateway) -> None:
    parent, child = pair()
    xcoms = Xcoms()
    run(parent, bound(gateway.share()), xcoms)
    run(child, bound(gateway.share()), xcoms)
    assert xcoms.of("parent", CONVERSATION_KEY) is not None
    assert xcoms.of("child", CONVERSATION_KEY) is None


@pytest.mark.parametrize("continues", ["parent", "parent[1]"])
def test_a_conversation_is_kept_for_a_mapped_task_that_continues_it(gateway: Gateway, continues: str) -> None:
    with DAG("d"):
        parent = llm("parent")
        parent >> LLMOperator.partial(task_id="child", model="m", continues=continues).expand(prompt=["a", "b"])
    xcoms = Xcoms()
    run(parent, bound(gateway.share()), xcoms)
    assert xcoms.of("parent", CONVERSATION_KEY) is not None


@pytest.mark.parametrize(
    ("continues", "map_index", "heard"),
    [("parent", 1, "instance 1"), ("parent", -1, "instance 0"), ("parent[2]", -1, "instance 2")],
    ids=["the same instance", "the first", "the one it names"],
)
def test_of_a_mapped_parent_one_instance_is_continued(
    gateway: Gateway, continues: str, map_index: int, heard: str
) -> None:
    xcoms = Xcoms()
    with DAG("d"):
        parent = llm("parent")
        child = llm("child", continues=continues)
        for index in range(3):
            parent.prompt = f"instance {index}"
            run(parent, bound(gateway.share()), xcoms, index)
    run(child, bound(gateway.share()), xcoms, map_index)
    assert roles_and_texts(gateway.asked[-1])[0] == ("user", heard)


def test_a_parent_without_a_conversation_is_named(gateway: Gateway) -> None:
    _, child = pair()
    with pytest.raises(ValueError, match="'parent', which 'child' continues, left no conversation"):
        run(child, bound(gateway.share()))


# Large outputs


@pytest.fixture
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__FATE__XCOM_LIMIT_BYTES", "10")


@pytest.mark.usefixtures("_small_limit")
def test_a_large_answer_stays_on_its_node_and_reads_as_text_in_a_template(gateway: Gateway) -> None:
    with DAG("d"):
        first, second = llm("first"), llm("second", prompt="{{ ti.xcom_pull(task_ids='first') }}!")
    xcoms = Xcoms()
    answer, _ = run(first, bound(gateway.share()), xcoms)
    assert isinstance(answer, StoredText)
    run(second, bound(gateway.share()), xcoms)
    assert gateway.prompts == ["hello", "gpu-0 heard hello!"]


@pytest.mark.usefixtures("_small_limit")
def test_a_large_conversation_stays_on_its_node_and_is_continued(gateway: Gateway) -> None:
    parent, child = pair()
    xcoms = Xcoms()
    run(parent, bound(gateway.share()), xcoms)
    assert xcoms.of("parent", CONVERSATION_KEY)["node"] == "n"
    run(child, bound(gateway.share()), xcoms)
    assert len(gateway.asked[1]["messages"]) == 4


# Not bound


def test_a_task_that_can_never_be_placed_fails_with_the_reason_and_asks_nobody(gateway: Gateway) -> None:
    with pytest.raises(AirflowFailException, match="no device has 400 GB"):
        run(llm(), bound(gateway.share(), error="no device has 400 GB"))
    assert gateway.asked == []


def test_the_binding_of_an_earlier_try_is_not_used(gateway: Gateway) -> None:
    with pytest.raises(AirflowFailException, match=r"only the binding of an earlier try \(1\)"):
        run(llm(), bound(gateway.share(), ti_id="another try"))
    assert gateway.asked == []


def test_without_a_binding_the_connections_host_is_asked(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    host = f'{{"conn_type": "fate", "host": "{gateway.url}/", "password": "key"}}'
    monkeypatch.setenv("AIRFLOW_CONN_FATE_DEFAULT", host)
    assert run(llm())[0] == "gpu-0 heard hello"
    assert gateway.tokens == ["Bearer key"]


def test_without_a_binding_a_batch_asks_the_connections_host(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FATE_DEFAULT", f'{{"conn_type": "fate", "host": "{gateway.url}"}}')
    assert run(batch("a", "b"))[0] == ["gpu-0 heard a", "gpu-0 heard b"]


def test_without_a_binding_and_a_host_the_error_says_what_to_do() -> None:
    with pytest.raises(AirflowFailException) as caught:
        run(llm())
    for advice in ("runs under LocalExecutor", "FateExecutor places tasks", "host of connection 'fate_default'"):
        assert advice in str(caught.value)


def test_under_fate_executor_the_error_says_what_it_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "airflow_fate.executor.FateExecutor")
    with pytest.raises(AirflowFailException, match=r"whose connection .* is of type `fate`") as caught:
        run(llm())
    assert "runs under" not in str(caught.value)


def test_a_host_is_taken_with_the_v1_that_people_write(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FATE_DEFAULT", f'{{"conn_type": "fate", "host": "{gateway.url}/v1"}}')
    assert run(llm())[0] == "gpu-0 heard hello"


def test_an_instance_that_is_not_what_was_planned_does_not_run(gateway: Gateway) -> None:
    """As ``expand_kwargs`` over a list that only the run knows would make it."""
    planned = StageSpec(model="m", tenant="").to_config()
    with pytest.raises(AirflowFailException, match=r"t: tenant can't be mapped over.*got 'x' where '' was planned"):
        run(llm(tenant="x", executor_config={"fate": planned}), bound(gateway.share()))
    assert gateway.asked == []
