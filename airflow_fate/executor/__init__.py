"""How does Airflow ask? FateExecutor, around an inner executor that runs the tasks.

``FateExecutor`` is loaded when first asked for, so that the solver's child process never imports Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_fate.executor.fate_executor import FateExecutor

__all__ = ["FateExecutor"]


def __getattr__(name: str) -> Any:
    if name == "FateExecutor":
        from airflow_fate.executor.fate_executor import FateExecutor

        return FateExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
