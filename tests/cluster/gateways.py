"""What gateways in pods say, without the gateways."""

from __future__ import annotations

from airflow_fate.gateway.report.kubernetes_pod import KubernetesPod
from airflow_fate.kube.api import Api as OurApi
from airflow_fate.messages import DeviceReport, ModelReport
from tests.cluster.api import Object

READY = ModelReport(state="ready", since=1.0)


def report(device: str, **models: ModelReport) -> DeviceReport:
    return DeviceReport(
        device=device,
        gpu="made up",
        memory_bytes=1e12,
        kv_tokens=9,
        max_seqs=2,
        engine="simulated",
        gateway_started=1.0,
        models=models,
    )


def own_pod(api: OurApi, pod: Object) -> KubernetesPod:
    meta = pod["metadata"]
    return KubernetesPod(api, meta["namespace"], meta["name"], meta["uid"])
