"""How does a DAG say it? ``LLMOperator``: common-ai's, and what the planner wants to know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel

from airflow_fate.messages import DEFAULT_CONN_ID, SpecError, TokenError, locked, read_spec, unlocked
from airflow_fate.operators import runtime
from airflow_fate.operators.batch import ANSWERS_KEY, Answers, PromptsFailed, ask_missing
from airflow_fate.operators.commonai import (
    Agent,
    CommonLLMOperator,
    coerce_usage_limits,
    dump_messages,
    engine_model,
    instructions_of,
    load_messages,
    validate_prompt,
)
from airflow_fate.operators.spec import check_as_planned, continued
from airflow_fate.operators.stored import StoredText, keep_small, load_text

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_fate.messages import Binding, Share

log = logging.getLogger(__name__)
CONVERSATION_KEY = "fate_conversation"


class LLMOperator(CommonLLMOperator):
    """Ask a model of the fleet; FATE decides where and when.

    Everything of common-ai's ``LLMOperator`` works as there: ``output_type``, approval, ``usage_limits``, retries.

    :param model: name of a model of the fleet, not templated: the planner must know it before the task runs. Left out,
        the connection's extra ``{"model": "..."}`` names it.
    :param prompt: the prompt (templated).
    :param prompts: instead of ``prompt``, a batch (templated); the result is the list of answers, in order. When some
        fail, the task fails, and its next try asks for these only.
    :param system_prompt: what comes first (templated). Put what tasks share here, or at the start of ``prompt``:
        tasks that begin alike are placed where that prefix is cached.
    :param continues: upstream task (or its id, ``"worker[2]"`` for one of a mapped task) whose conversation this task
        extends: its prompt and answer come first, and its engine has them cached. A task given itself becomes upstream.
    :param max_shards: devices over which a batch may be split.
    :param max_tokens: upper bound of an answer, in tokens.
    :param expected_output_tokens: estimate of an answer, in tokens; history is used without it.
    :param priority: weight against other tasks of the frontier; 1 is normal.
    :param tenant: prefixes are shared within a tenant only.
    :raises ValueError: naming the parameter and the expected form.
    """

    template_fields: Sequence[str] = (*CommonLLMOperator.template_fields, "prompts")
    deserialization_allowed_class_fields = (*CommonLLMOperator.deserialization_allowed_class_fields, "stored_type")
    stored_type = StoredText

    def __init__(
        self,
        *,
        model: str | None = None,
        prompt: str | None = None,
        prompts: Sequence[str] | Any | None = None,
        system_prompt: str = "",
        continues: Any | None = None,
        max_shards: int = 1,
        max_tokens: int | None = None,
        expected_output_tokens: int | None = None,
        priority: float = 1.0,
        tenant: str = "",
        llm_conn_id: str = DEFAULT_CONN_ID,
        model_settings: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if (prompt is None) == (prompts is None):
            raise ValueError("LLMOperator takes either prompt (a text) or prompts (a list of texts)")
        if isinstance(prompts, list | tuple) and not prompts:
            raise ValueError("prompts must have at least one prompt, got an empty list")
        if max_tokens is not None:
            model_settings = {"max_tokens": max_tokens, **(model_settings or {})}
        super().__init__(
            prompt=prompt if prompt is not None else "",
            llm_conn_id=llm_conn_id,
            model_id=model,
            system_prompt=system_prompt,
            model_settings=model_settings,  # type: ignore[arg-type]
            **kwargs,
        )
        if prompts is not None and self._may_review:
            raise ValueError(
                "prompts can't be combined with require_approval or decision_policy: a person reviews one answer"
            )
        self.model = model
        self.prompts = prompts
        self.continues = self._named(continues)
        self.max_shards = max_shards
        self.max_tokens = max_tokens
        self.expected_output_tokens = expected_output_tokens
        self.priority = priority
        self.tenant = tenant

    def _named(self, continues: Any) -> str | None:
        """The task id of ``continues``; a task given itself becomes upstream."""
        named, task = continued(continues)
        if task is not None:
            self.set_upstream(task)
        return named

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        # A template may stand for text on a node, which is read with the binding's token.
        self._binding(context)
        super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> Any:
        self._context = context
        self._check_spec()
        if self.prompts is not None:
            return self._execute_batch(context)
        output = super().execute(context)
        return self._kept(output, "output") if isinstance(output, str) else output

    def run_agent_sync(self, agent: Agent[Any, Any], user_prompt: Any, **run_kwargs: Any) -> Any:
        """Run the agent, after the conversation that is continued; keep ours for whoever continues it."""
        result = super().run_agent_sync(agent, user_prompt, **run_kwargs, **self._history())
        if self._is_continued():
            conversation = self._kept(dump_messages(result.all_messages()), "conversation")
            value = conversation.model_dump() if isinstance(conversation, StoredText) else conversation
            self._context["ti"].xcom_push(key=CONVERSATION_KEY, value=value)
        return result

    def _check_spec(self) -> None:
        """A mapped task got its arguments only now: where they aren't what the planner was told, it must not go on."""
        from airflow.sdk.exceptions import AirflowFailException

        try:
            planned = read_spec(self.executor_config)
            if planned is not None:
                check_as_planned(self, planned)
        except SpecError as error:
            raise AirflowFailException(str(error)) from error

    def _history(self) -> dict[str, Any]:
        """How an agent is run after the conversation that is continued."""
        if self.continues is None:
            return {}
        history = load_messages(self._conversation_of(self.continues))
        # The conversation began with its system prompt; without it, it would not be the same prefix.
        instructions = {} if self.system_prompt else {"instructions": instructions_of(history)}
        return {"message_history": history} | instructions

    def _execute_batch(self, context: Context) -> list[Any]:
        """Answer all prompts, each device its share of them, as many at once as it has room for."""
        from airflow.sdk.exceptions import AirflowFailException

        prompts = list(self.prompts or ())
        if not prompts:
            raise ValueError("prompts must have at least one prompt, got an empty list")
        for prompt in prompts:
            validate_prompt(prompt, decorator_name="LLMOperator")
        limits = coerce_usage_limits(self.usage_limits)
        agent = self._create_agent(output_type=self.output_type, instructions=self.system_prompt)
        binding = self._binding(context)
        history = self._history()
        store = context["task_state_store"]
        answers = Answers(prompts, self.output_type)
        # Who may write the store may not answer in the model's place: what is kept is locked with the task's key.
        keep_key = binding.keep_key if binding else ""
        if keep_key and (kept := store.get(ANSWERS_KEY)):
            try:
                answers.take_in(unlocked(load_text(kept), keep_key))
                log.info("%d of %d prompts were answered by earlier tries", len(answers.known), len(prompts))
            except (TokenError, ValueError, httpx.HTTPError) as error:
                log.warning("The answers of earlier tries can't be used, all prompts are asked again: %s", error)
        models = {share.device: engine_model(binding.model, share) for share in binding.shares} if binding else {}

        async def ask(index: int, share: Share | None) -> Any:
            model = models[share.device] if share else None
            return (await agent.run(prompts[index], model=model, usage_limits=limits, **history)).output

        async def run() -> None:
            try:
                await ask_missing(answers, binding, ask)
            finally:
                if binding:
                    await runtime.report_facts(context, binding)

        try:
            asyncio.run(run())
        except PromptsFailed as error:
            if keep_key and (text := answers.kept()):
                value = self._kept(locked(text, keep_key), "answers")
                store.set(ANSWERS_KEY, value.model_dump() if isinstance(value, StoredText) else value)
            if error.is_final:
                raise AirflowFailException(str(error)) from error
            raise
        if self._serialize_model_output:
            return [answer.model_dump() if isinstance(answer, BaseModel) else answer for answer in answers.in_order()]
        return answers.in_order()

    def _binding(self, context: Context) -> Binding | None:
        try:
            return runtime.read_binding(context)
        except runtime.NotBound:
            # The hook decides whether the task can run without.
            return None

    def _kept(self, text: str, name: str) -> str | StoredText:
        from airflow.configuration import conf

        limit_bytes = conf.getint("fate", "xcom_limit_bytes", fallback=65_536)
        return keep_small(text, name, runtime.current(), limit_bytes)

    def _is_continued(self) -> bool:
        """Whether a task downstream continues this one."""
        named = (continued(_field(task, "continues"))[0] for task in self._context["dag"].tasks)
        return any((name or "").partition("[")[0] == self.task_id for name in named)

    def _conversation_of(self, named: str) -> str:
        task_id, _, index = named.rstrip("]").partition("[")
        ti = self._context["ti"]
        mine = ti.map_index if ti.map_index is not None else -1
        # The same instance of a mapped parent, else the parent that isn't mapped, else the first instance.
        wanted = [int(index)] if index else [mine, -1, 0]
        for map_index in dict.fromkeys(wanted):
            value = ti.xcom_pull(task_ids=task_id, key=CONVERSATION_KEY, map_indexes=map_index)
            if value is not None:
                return load_text(value)
        raise ValueError(
            f"task {named!r}, which {self.task_id!r} continues, left no conversation: did it run and succeed?"
        )


def _field(task: Any, name: str) -> Any:
    return (
        getattr(task, "partial_kwargs", {}).get(name) if hasattr(task, "partial_kwargs") else getattr(task, name, None)
    )
