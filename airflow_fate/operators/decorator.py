"""How does a function say it? ``@task.fate_llm``: it returns the prompt, FATE decides where it is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_fate.operators.commonai import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
    validate_prompt,
)
from airflow_fate.operators.llm import LLMOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class FateLLMDecoratedOperator(DecoratedOperator, LLMOperator):
    """Wraps a function that returns the prompt; all other parameters are ``LLMOperator``'s."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *LLMOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    custom_operator_name: str = "@task.fate_llm"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            prompt=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        self.prompt = self.python_callable(*self.op_args, **kwargs)
        validate_prompt(self.prompt, decorator_name="@task.fate_llm")
        # What it returned is text, not a template: a document may well have braces in it.
        return LLMOperator.execute(self, context)


def fate_llm_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function that returns a prompt into an LLM task of the fleet.

    .. code-block:: python

        @task.fate_llm(model="smol-a", system_prompt="Summarize in one sentence.")
        def summarize(text: str) -> str:
            return f"Summarize: {text}"
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=FateLLMDecoratedOperator, **kwargs
    )
