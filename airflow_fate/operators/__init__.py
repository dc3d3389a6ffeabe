"""How does a DAG say it? ``LLMOperator``, ``@task.fate_llm`` and the ``fate`` connection.

Everything here is loaded when first asked for: the cluster policy of this package is imported wherever a DAG is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_fate.operators.llm import LLMOperator

__all__ = ["LLMOperator"]


def __getattr__(name: str) -> Any:
    if name == "LLMOperator":
        from airflow_fate.operators.llm import LLMOperator

        return LLMOperator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
