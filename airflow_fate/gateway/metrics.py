"""What does a gateway tell Prometheus? Its report, as counters and gauges."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from airflow_fate.messages import DeviceReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(report: DeviceReport) -> bytes:
    """The report in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ReportCollector(report))
    return generate_latest(registry)


class _ReportCollector(Collector):
    def __init__(self, report: DeviceReport) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        report = self._report
        yield self._counter("fate_requests", "Requests answered", report.served_requests)
        yield self._counter("fate_prompt_tokens", "Prompt tokens of answered requests", report.served_prompt_tokens)
        yield self._counter("fate_cached_tokens", "Prompt tokens found in the cache", report.served_cached_tokens)
        expected = report.expected_cached_tokens
        yield self._counter("fate_expected_cached_tokens", "Prompt tokens that should have been there", expected)
        yield self._counter("fate_model_loads", "Models loaded", report.loads)
        yield self._gauge("fate_requests_running", "Requests being served", report.running)
        yield self._gauge("fate_requests_queued", "Requests waiting", report.queued)
        yield self._gauge("fate_draining", "Whether new tasks should go elsewhere", report.draining)
        yield self._gauge("fate_artifact_bytes", "Artifacts on the node", sum(size for _, size in report.artifacts))
        models = GaugeMetricFamily("fate_model_ready", "Whether a model serves", labels=["device", "model"])
        for name, model in report.models.items():
            models.add_metric([report.device, name], model.state == "ready")
        yield models

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=["device"])
        family.add_metric([self._report.device], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["device"])
        family.add_metric([self._report.device], value)
        return family
