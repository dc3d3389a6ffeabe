"""How does a task reach its engine? The ``fate`` connection: who asks it for a model gets the one that was bound."""

from __future__ import annotations

from typing import Any

from airflow_fate.operators import runtime
from airflow_fate.operators.commonai import Model, PydanticAIHook, engine_model, reporting, served_model


class FateHook(PydanticAIHook):
    """Connection of type ``fate``, for ``LLMOperator`` and for every common-ai operator.

    Under FateExecutor the task's binding says where to go. Without it (``airflow dags test``), the connection's own
    host is used, when it has one: the base URL of any OpenAI-compatible endpoint, without ``/v1``.

    Connection fields: **extra** ``{"model": "..."}``, for tasks that name none; **host** and **password** (optional):
    that endpoint, and its API key. No key of the fleet belongs here.
    """

    conn_name_attr = "llm_conn_id"
    default_conn_name = "fate_default"
    conn_type = "fate"
    hook_name = "FATE fleet"

    @staticmethod
    def get_ui_field_behaviour() -> dict[str, Any]:
        return {
            "hidden_fields": ["schema", "port", "login"],
            "relabeling": {"password": "API key of that endpoint", "host": "Endpoint without FATE"},
            "placeholders": {"host": "only used when no binding is there", "extra": '{"model": "my-model"}'},
        }

    def _resolve_own_model(self, **forwarded: Any) -> Model:
        from airflow.sdk import get_current_context
        from airflow.sdk.exceptions import AirflowFailException

        context = get_current_context()
        try:
            binding = runtime.read_binding(context)
        except runtime.NotBound as error:
            return self._without_binding(error)
        if self.model_id and self.model_id != binding.model:
            raise AirflowFailException(
                f"the task asks for model {self.model_id!r}, but was planned and bound for {binding.model!r}: the "
                "model must be known when the DAG is parsed"
            )

        async def report() -> None:
            await runtime.report_facts(context, binding)

        return reporting(engine_model(binding.model, binding.shares[0]), report)

    def _without_binding(self, error: runtime.NotBound) -> Model:
        from airflow.sdk.exceptions import AirflowFailException

        connection, extra = self._get_conn_and_extra()
        name = self.model_id or extra.get("model")
        if connection.host and name:
            self.log.warning("%s; using the host of connection %s", error, self.llm_conn_id)
            return served_model(name, base_url(connection.host), connection.password or "none")
        raise AirflowFailException(
            f"{error}. {_advice()} Or set the host of connection {self.llm_conn_id!r} to an endpoint that serves the "
            "model."
        ) from error


def base_url(host: str) -> str:
    """The base URL of an OpenAI-compatible API, without the ``/v1`` that people may well have written."""
    return host.rstrip("/").removesuffix("/v1")


def _advice() -> str:
    """What to do about a task that was not bound, by the executor that is configured."""
    from airflow.configuration import conf

    executor = conf.get("core", "executor")
    if "FateExecutor" not in executor:
        return (
            f"It runs under {executor}, for that is what [core] executor says here; only "
            "airflow_fate.executor.FateExecutor places tasks on the fleet."
        )
    return (
        "FateExecutor places a task whose connection (llm_conn_id) is of type `fate` and known when the DAG is parsed, "
        "with a model named by the task or by the connection's extra."
    )
