"""Which workload is in OpenTelemetry's GenAI traces?"""

from airflow_fate.simulator.otel.spans import is_trace
from airflow_fate.simulator.otel.workflows import workload_of

__all__ = ["is_trace", "workload_of"]
