"""Where does the state of the fleet come from? The state source that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_fate.executor.settings import Settings
    from airflow_fate.state.source import StateSource


def open_source(settings: Settings) -> StateSource:
    """The state source, not started yet."""
    if settings.state_source == "kubernetes":
        from airflow_fate.state.kubernetes.source import KubernetesFleet, Where

        assert settings.models_file is not None
        where = Where(
            models_file=settings.models_file,
            selector=settings.pod_selector,
            inference_pool=settings.inference_pool,
            gateway_port=settings.gateway_port,
            namespace=settings.namespace,
            accounts=settings.service_accounts,
            label_prefix=settings.label_prefix,
            kubeconfig=settings.kubeconfig,
        )
        return KubernetesFleet(where, settings.pod_stale_after_s)
    from airflow_fate.state.local import LocalFleet

    return LocalFleet(settings.fleet_dir, settings.label_prefix, stale_after_s=settings.stale_after_s)
