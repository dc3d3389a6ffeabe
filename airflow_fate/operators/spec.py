"""What does a task tell the planner? Its stage spec, read from the operator as the DAG's author wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from airflow_fate.messages import SegmentSpec, SpecError, StageSpec, explain
from airflow_fate.messages.spec import MAX_SEGMENTS
from airflow_fate.operators.segments import common, is_template, segments

_OWN = "airflow_fate.operators"
_COMMON_AI = "airflow.providers.common.ai.operators"
Field = Callable[[str, Any], Any]


def stage_spec(task: Any, conn_ids: frozenset[str]) -> StageSpec | None:
    """The spec of a task that runs on the fleet, or None for any other task.

    :param task: an operator, or a mapped one.
    :param conn_ids: connections of type ``fate``: common-ai's own operators with one of them are placeable.
    :raises SpecError: naming the field and the expected form.
    """
    operator, field, mapped = _reader(task)
    modules = {cls.__module__ for cls in operator.__mro__}
    if any(module.startswith(_OWN) for module in modules):
        model = field("model", None)
    elif any(module.startswith(_COMMON_AI) for module in modules) and field("llm_conn_id", None) in conn_ids:
        model = field("model_id", None)
        if not isinstance(model, str) or is_template(model):
            # The connection or a template decides, which only the running task can see.
            return None
    else:
        return None
    if not isinstance(model, str) or not model or is_template(model):
        raise SpecError(f"{task.task_id}: model must be a model's name, known when the DAG is parsed, got {model!r}")
    if "continues" in mapped:
        raise SpecError(f"{task.task_id}: continues can't be mapped over, give it to partial()")
    prompts = field("prompts", None)
    try:
        named, _ = continued(field("continues", None))
    except ValueError as error:
        raise SpecError(f"{task.task_id}: {error}") from error
    try:
        return StageSpec(
            model=model,
            prompts=_count(prompts, "prompts" in mapped),
            # What follows so many pieces is hardly ever shared.
            prefix=tuple(_prefix(field, prompts)[:MAX_SEGMENTS]),
            continues=named,
            max_shards=field("max_shards", 1),
            max_tokens=field("max_tokens", None) or _setting(field, "max_tokens"),
            expected_output_tokens=field("expected_output_tokens", None),
            tenant=field("tenant", ""),
            weight=field("priority", 1.0),
        )
    except ValidationError as error:
        raise SpecError(f"{task.task_id}: {explain(error)}") from error


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


def put_spec(task: Any, spec: StageSpec) -> None:
    """Write the spec into the task's ``executor_config``, beside what its author put there."""
    if _is_mapped(task):
        task.partial_kwargs["executor_config"] = {
            **task.partial_kwargs.get("executor_config", {}),
            "fate": spec.to_config(),
        }
    else:
        task.executor_config = {**(task.executor_config or {}), "fate": spec.to_config()}


def _is_mapped(task: Any) -> bool:
    return hasattr(task, "partial_kwargs") and hasattr(task, "operator_class")


def _reader(task: Any) -> tuple[type, Field, frozenset[str]]:
    """The operator's class, a way to read its fields, and the names of those that are mapped over."""
    if not _is_mapped(task):
        return type(task), lambda name, default: getattr(task, name, default), frozenset()
    given: Mapping[str, Any] = task.partial_kwargs
    expansion = getattr(task._get_specified_expand_input(), "value", {})
    mapped = frozenset(expansion) if isinstance(expansion, Mapping) else frozenset()
    return task.operator_class, lambda name, default: given.get(name, default), mapped


def _count(prompts: Any, is_mapped: bool) -> int | None:
    if is_mapped:
        return None
    if prompts is None:
        return 1
    return len(prompts) if isinstance(prompts, list | tuple) else None


def _setting(field: Field, name: str) -> Any:
    settings = field("model_settings", None)
    value = settings.get(name) if isinstance(settings, Mapping) else None
    return value if isinstance(value, int) else None


def _prefix(field: Field, prompts: Any) -> list[SegmentSpec]:
    """The pieces with which every prompt of the task begins: the system prompt's, then those all its prompts share."""
    system = field("system_prompt", "")
    found = segments(system, "system") if isinstance(system, str) and system else []
    prompt = field("prompt", None)
    if isinstance(prompt, str) and prompt:
        return found + segments(prompt, "user")
    if isinstance(prompts, list | tuple) and prompts and all(isinstance(item, str) for item in prompts):
        return found + common([segments(item, "user") for item in prompts])
    return found
