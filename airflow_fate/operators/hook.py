"""How does a task reach its engine? The ``fate`` connection: who asks it for a model gets the one that was bound."""

from __future__ import annotations

from typing import Any

from airflow_fate.operators import runtime
from airflow_fate.operators.commonai import Model, PydanticAIHook, engine_model, reporting


class FateHook(PydanticAIHook):
    """Connection of type ``fate``, for ``LLMOperator`` and for every common-ai operator.

    Under FateExecutor the task's binding says where to go. Without it (``airflow dags test``), the connection's own
    host is used, when it has one: the base URL of any OpenAI-compatible endpoint, without ``/v1``.

    Connection fields: **host** (optional, as said), **password** (the fleet's key, the file ``secret`` of the fleet's
    folder: only needed to read stored outputs outside of LLM tasks, or as API key of the host), **extra**
    ``{"model": "..."}``.
    """

    conn_name_attr = "llm_conn_id"
    default_conn_name = "fate_default"
    conn_type = "fate"
    hook_name = "FATE fleet"

    @staticmethod
    def get_ui_field_behaviour() -> dict[str, Any]:
        return {
            "hidden_fields": ["schema", "port", "login"],
            "relabeling": {"password": "Fleet key", "host": "Endpoint without FATE"},
            "placeholders": {"host": "only used when no binding is there", "extra": '{"model": "my-model"}'},
        }

    def _resolve_own_model(self, **forwarded: Any) -> Model:
        from airflow.sdk import get_current_context

        context = get_current_context()
        try:
            binding = runtime.read_binding(context)
        except runtime.NotBound as error:
            return self._without_binding(error)
        share = binding.shares[0]

        async def report() -> None:
            await runtime.report_facts(context, binding)

        return reporting(engine_model(binding.model, share.url, share.token), report)

    def _without_binding(self, error: runtime.NotBound) -> Model:
        from airflow.sdk.exceptions import AirflowFailException

        connection, extra = self._get_conn_and_extra()
        name = self.model_id or extra.get("model")
        if connection.host and name:
            self.log.warning("%s; using the host of connection %s", error, self.llm_conn_id)
            return engine_model(name, connection.host.rstrip("/"), connection.password or "none")
        raise AirflowFailException(
            f"{error}. Set `executor = airflow_fate.executor.FateExecutor`, give the task a literal model, or set the "
            f"host of connection {self.llm_conn_id!r} to an endpoint that serves it."
        ) from error
