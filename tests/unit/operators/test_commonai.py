"""The contract with common-ai and pydantic-ai: what ``operators.commonai`` relies on."""

from __future__ import annotations

import inspect

import pytest
from airflow.providers.common.ai.hooks.pydantic_ai import PydanticAIHook
from airflow.providers.common.ai.operators.llm import LLMOperator as CommonLLMOperator
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel

from airflow_fate.operators.commonai import dump_messages, instructions_of, load_messages, reporting
from airflow_fate.operators.hook import FateHook
from airflow_fate.operators.llm import LLMOperator


def test_the_operators_parameters_and_template_fields_are_kept() -> None:
    assert set(CommonLLMOperator.template_fields) < set(LLMOperator.template_fields)
    parameters = inspect.signature(CommonLLMOperator.__init__).parameters
    assert {
        "prompt",
        "llm_conn_id",
        "model_id",
        "system_prompt",
        "model_settings",
        "require_approval",
    } <= parameters.keys()


def test_what_we_read_of_the_operator_is_there() -> None:
    operator = CommonLLMOperator(task_id="t", prompt="a", llm_conn_id="c", require_approval=True)
    assert operator._may_review is True
    assert CommonLLMOperator.deserialization_allowed_class_fields == ("output_type",)
    assert set(inspect.signature(CommonLLMOperator._create_agent).parameters) == {"self", "output_type", "instructions"}


def test_a_run_takes_a_history_and_instructions() -> None:
    parameters = inspect.signature(CommonLLMOperator.run_agent_sync).parameters.values()
    assert inspect.Parameter.VAR_KEYWORD in {parameter.kind for parameter in parameters}
    agent_takes = inspect.signature(Agent.run_sync).parameters
    assert {"message_history", "instructions", "model", "usage_limits"} <= agent_takes.keys()


def test_every_model_call_goes_through_run_agent_sync() -> None:
    assert "self.run_agent_sync(" in inspect.getsource(CommonLLMOperator._run_llm)
    assert "self._run_llm(" in inspect.getsource(CommonLLMOperator.execute)
    assert "self._create_agent(" in inspect.getsource(CommonLLMOperator.execute)


def test_the_hook_asks_itself_for_its_model() -> None:
    assert "self._resolve_own_model(" in inspect.getsource(PydanticAIHook.get_conn)
    assert issubclass(FateHook, PydanticAIHook)


async def test_facts_are_reported_after_each_request() -> None:
    reports: list[str] = []

    async def report() -> None:
        reports.append("asked")

    agent = Agent(reporting(TestModel(custom_output_text="yes"), report))
    assert (await agent.run("one")).output == "yes"
    await agent.run("two")
    assert reports == ["asked", "asked"]


async def test_what_a_device_says_of_a_failure_is_reported_too() -> None:
    reports: list[str] = []

    async def report() -> None:
        reports.append("asked")

    def fail(*_: object) -> ModelResponse:
        raise RuntimeError("the engine died")

    with pytest.raises(RuntimeError, match="the engine died"):
        await Agent(reporting(FunctionModel(fail), report)).run("one")
    assert reports == ["asked"]


async def test_a_conversation_survives_the_way_through_xcom() -> None:
    agent = Agent(TestModel(custom_output_text="yes"), instructions="Be brief.")
    first = await agent.run("one")
    history = load_messages(dump_messages(first.all_messages()))
    assert instructions_of(history) == "Be brief."
    second = await agent.run("two", message_history=history)
    assert len(second.all_messages()) == len(history) + 2


async def test_a_conversation_without_a_system_prompt_has_no_instructions() -> None:
    answer = await Agent(TestModel()).run("one")
    assert instructions_of(answer.all_messages()) is None
