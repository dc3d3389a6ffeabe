"""What does a task tell the planner? Its stage spec, read from the operator as the DAG's author wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk.bases.operator import get_merged_defaults
from pydantic import ValidationError

from airflow_fate.messages import (
    BY_CONNECTION_KEY,
    DEFAULT_CONN_ID,
    SPEC_KEY,
    SegmentSpec,
    SpecError,
    StageSpec,
    explain,
)
from airflow_fate.messages.spec import MAX_PROBLEM_CHARS, MAX_SEGMENTS
from airflow_fate.operators.segments import common, is_template, segments

_OWN = "airflow_fate.operators"
_COMMON_AI = "airflow.providers.common.ai.operators"
XCOM_RETURN_KEY = "return_value"
_BATCH_API = "LLMBatchOperator"
Field = Callable[[str, Any], Any]

PLANNED = (
    "continues",
    "expected_output_tokens",
    "llm_conn_id",
    "max_shards",
    "max_tokens",
    "model",
    "model_id",
    "priority",
    "tenant",
)
"""Parameters that the planner reads when the DAG is parsed: they are the same for all instances of a mapped task."""
_IN_SPEC = {
    "model": "model",
    "conn_id": "llm_conn_id",
    "tenant": "tenant",
    "continues": "continues",
    "max_shards": "max_shards",
    "weight": "priority",
}
"""Of a spec, what must be so when the task runs -> the parameter that says it. Estimates may be off."""
_NOT_MAPPED = (
    "can't be mapped over: the planner reads it when the DAG is parsed. Give it to partial(), or make a task for each"
)


def stage_spec(task: Any) -> StageSpec | None:
    """The spec of a task that runs on the fleet, or may, depending on its connection; None for any other task.

    :param task: an operator, or a mapped one.
    :raises SpecError: naming the field and the expected form.
    """
    operator, field, mapped = _reader(task)
    modules = {cls.__module__ for cls in operator.__mro__}
    if any(module.startswith(_OWN) for module in modules):
        return _own_spec(task.task_id, field, mapped)
    if any(module.startswith(_COMMON_AI) for module in modules):
        return _common_ai_spec(task.task_id, operator, field, mapped)
    return None


def _own_spec(task_id: str, field: Field, mapped: frozenset[str]) -> StageSpec:
    for name in sorted(mapped.intersection(PLANNED)):
        raise SpecError(f"{task_id}: {name} {_NOT_MAPPED}")
    model = field("model", None)
    if model is not None and (not isinstance(model, str) or not model or is_template(model)):
        raise SpecError(
            f"{task_id}: model must be a model's name, known when the DAG is parsed, or be left to the connection, "
            f"got {model!r}"
        )
    conn_id = field("llm_conn_id", DEFAULT_CONN_ID)
    if not isinstance(conn_id, str) or not conn_id or is_template(conn_id):
        raise SpecError(
            f"{task_id}: llm_conn_id must be a connection's id, known when the DAG is parsed, got {conn_id!r}"
        )
    for name, is_right, form in _FORMS:
        value = field(name, None)
        if value is not None and name not in mapped and not is_right(value):
            raise SpecError(f"{task_id}: {name} must be {form}, got {value!r:.80}")
    return _spec(task_id, field, mapped, model=model or "", conn_id=conn_id)


def _may_be_text(value: Any) -> bool:
    """A text, parts of a prompt, or what only a run knows."""
    return not isinstance(value, bool | int | float | bytes | Mapping | type)


def _may_be_batch(value: Any) -> bool:
    return is_template(value) if isinstance(value, str) else _may_be_text(value)


_FORMS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("prompt", _may_be_text, "a text"),
    ("system_prompt", _may_be_text, "a text"),
    ("prompts", _may_be_batch, "a list of texts"),
    ("output_type", lambda value: not isinstance(value, str | int | float), "a type, such as a pydantic model"),
)
"""(parameter, whether a value may be right, its form)"""


def _common_ai_spec(task_id: str, operator: type, field: Field, mapped: frozenset[str]) -> StageSpec | None:
    conn_id = field("llm_conn_id", None)
    if "llm_conn_id" in mapped or not isinstance(conn_id, str) or not conn_id or is_template(conn_id):
        # Only the running task can see which it is.
        return None
    model = field("model_id", None)
    problem = ""
    if "model_id" in mapped:
        problem = f"model_id {_NOT_MAPPED}"
    elif model is not None and (not isinstance(model, str) or is_template(model)):
        problem = f"model_id must be a model's name, known when the DAG is parsed, got {model!r:.80}"
    elif any(cls.__name__ == _BATCH_API for cls in operator.__mro__):
        problem = "engines of the fleet have no batch API; LLMOperator takes a batch as prompts=[...]"
    known = {"conn_id": conn_id, "only_on_fate": True, "problem": problem}
    try:
        return _spec(task_id, field, mapped, model="" if problem else model or "", **known)
    except SpecError as error:
        return StageSpec(
            conn_id=conn_id, only_on_fate=True, problem=str(error).removeprefix(f"{task_id}: ")[:MAX_PROBLEM_CHARS]
        )


def _spec(task_id: str, field: Field, mapped: frozenset[str], **known: Any) -> StageSpec:
    prompts = field("prompts", None)
    try:
        named, _ = continued(field("continues", None))
    except ValueError as error:
        raise SpecError(f"{task_id}: {error}") from error
    try:
        return StageSpec(
            prompts=_count(prompts, "prompts" in mapped),
            prompts_from="" if "prompts" in mapped else _source(prompts),
            # What follows so many pieces is hardly ever shared.
            prefix=tuple(_prefix(field, prompts, mapped)[:MAX_SEGMENTS]),
            continues=named,
            max_shards=field("max_shards", 1),
            max_tokens=field("max_tokens", None) or _setting(field, "max_tokens"),
            expected_output_tokens=field("expected_output_tokens", None),
            tenant=field("tenant", ""),
            weight=field("priority", 1.0),
            **known,
        )
    except ValidationError as error:
        problem = explain(error, _IN_SPEC)
        raise SpecError(f"{task_id}: {problem}; it must be known when the DAG is parsed") from error


def continued(given: Any) -> tuple[str | None, Any]:
    """What ``continues`` names: the task's id, and the task where it was given itself.

    :raises ValueError: when it is neither.
    """
    if given is None or isinstance(given, str):
        return given, None
    # What a mapped operator, or a function with @task, gives back stands for its task.
    task = getattr(given, "operator", given)
    if not isinstance(getattr(task, "task_id", None), str):
        raise ValueError(f"continues must be an upstream task or its id, got {given!r}")
    return task.task_id, task


def check_as_planned(task: Any, planned: StageSpec) -> None:
    """:raises SpecError: when the planner was told something else of this instance than what it is."""
    real = _own_spec(task.task_id, lambda name, default: getattr(task, name, default), frozenset())
    for name, parameter in _IN_SPEC.items():
        wanted, had = getattr(real, name), getattr(planned, name)
        if wanted != had:
            raise SpecError(f"{task.task_id}: {parameter} {_NOT_MAPPED}; got {wanted!r} where {had!r} was planned")


def leaves_conversation(task: Any) -> bool:
    """Whether another task can continue what this one is answered."""
    operator, field, mapped = _reader(task)
    is_own = any(cls.__module__.startswith(_OWN) for cls in operator.__mro__)
    return is_own and field("prompts", None) is None and "prompts" not in mapped


def put_spec(task: Any, spec: StageSpec) -> None:
    """Write the spec into the task's ``executor_config``, beside what its author put there."""
    written = {BY_CONNECTION_KEY if spec.only_on_fate else SPEC_KEY: spec.to_config()}
    if _is_mapped(task):
        task.partial_kwargs["executor_config"] = task.partial_kwargs.get("executor_config", {}) | written
    else:
        task.executor_config = (task.executor_config or {}) | written


def _is_mapped(task: Any) -> bool:
    return hasattr(task, "partial_kwargs") and hasattr(task, "operator_class")


def _reader(task: Any) -> tuple[type, Field, frozenset[str]]:
    """The operator's class, a way to read its fields, and the names of those that are mapped over."""
    if not _is_mapped(task):
        return type(task), lambda name, default: getattr(task, name, default), frozenset()
    given: Mapping[str, Any] = task.partial_kwargs
    # Of these, Airflow applies most only when an instance is made.
    inherited, _ = get_merged_defaults(task.dag, task.task_group, None, None)
    mapped = _mapped_over(task)

    def field(name: str, default: Any) -> Any:
        return given[name] if name in given else inherited.get(name, default)

    return task.operator_class, field, mapped


def _mapped_over(task: Any) -> frozenset[str]:
    """What ``expand`` or ``expand_kwargs`` gives; of a list that only a run knows, nothing."""
    if task._expand_input_attr != "expand_input":
        # Of a function, the arguments are mapped over, whatever their names are.
        return frozenset()
    expansion = getattr(task._get_specified_expand_input(), "value", {})
    if isinstance(expansion, Mapping):
        return frozenset(expansion)
    if isinstance(expansion, list | tuple):
        return frozenset(name for item in expansion if isinstance(item, Mapping) for name in item)
    return frozenset()


def _count(prompts: Any, is_mapped: bool) -> int | None:
    if is_mapped:
        return None
    if prompts is None:
        return 1
    return len(prompts) if isinstance(prompts, list | tuple) else None


def _source(prompts: Any) -> str:
    """The task whose whole result is the batch; empty where there is none, or it has a result for each instance."""
    operator = getattr(prompts, "operator", None)
    if operator is None or getattr(prompts, "key", None) != XCOM_RETURN_KEY or _is_mapped(operator):
        return ""
    return str(operator.task_id) if operator.get_closest_mapped_task_group() is None else ""


def _setting(field: Field, name: str) -> Any:
    settings = field("model_settings", None)
    value = settings.get(name) if isinstance(settings, Mapping) else None
    return value if isinstance(value, int) else None


def _prefix(field: Field, prompts: Any, mapped: frozenset[str]) -> list[SegmentSpec]:
    """The pieces with which every prompt of the task begins: the system prompt's, then those all its prompts share."""
    if "system_prompt" in mapped:
        return []
    system = field("system_prompt", "")
    pieces = segments(system, "system") if isinstance(system, str) and system else []
    if mapped.intersection({"prompt", "prompts"}):
        return pieces
    prompt = field("prompt", None)
    if isinstance(prompt, str) and prompt:
        return pieces + segments(prompt, "user")
    if isinstance(prompts, list | tuple) and prompts and all(isinstance(item, str) for item in prompts):
        return pieces + common([segments(item, "user") for item in prompts])
    return pieces
