"""What does a gateway tell Prometheus? Its report, and which of its engine's signals there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from airflow_fate.messages import DeviceReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(report: DeviceReport, signals: Mapping[str, float], missing: Collection[str]) -> bytes:
    """The report in Prometheus' text format.

    :param signals: what the engine tells of itself.
    :param missing: what it should tell and doesn't.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ReportCollector(report, signals, missing))
    return generate_latest(registry)


class _ReportCollector(Collector):
    def __init__(self, report: DeviceReport, signals: Mapping[str, float], missing: Collection[str]) -> None:
        self._report = report
        self._signals = signals
        self._missing = missing

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
        yield self._gauge("fate_artifacts", "Artifacts on the node", report.artifact_count)
        yield self._gauge("fate_artifact_bytes", "Bytes of artifacts on the node", report.artifact_bytes)
        models = GaugeMetricFamily("fate_model_ready", "Whether a model serves", labels=["device", "model"])
        for name, model in report.models.items():
            models.add_metric([report.device, name], model.state == "ready")
        yield models
        signals_family = GaugeMetricFamily(
            "fate_engine_signal", "What the engine tells of itself", labels=["device", "signal"]
        )
        absent = GaugeMetricFamily("fate_engine_signal_missing", "1 where it doesn't", labels=["device", "signal"])
        for signal, value in sorted(self._signals.items()):
            signals_family.add_metric([report.device, signal], value)
        for signal in sorted({*self._signals, *self._missing}):
            absent.add_metric([report.device, signal], signal in self._missing)
        yield signals_family
        yield absent

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=["device"])
        family.add_metric([self._report.device], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["device"])
        family.add_metric([self._report.device], value)
        return family
