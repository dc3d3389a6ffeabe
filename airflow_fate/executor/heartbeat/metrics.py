"""What do Airflow's metrics say of the fleet? Where a device's signals are missing, it shows here; it gets no tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from airflow_fate.state.source import FleetView


def emit(view: FleetView) -> None:
    """Gauges: devices, those that may get tasks, those of which nothing is known."""
    devices = view.fleet.devices
    stats.gauge("fate.devices", len(devices))
    stats.gauge("fate.devices.usable", sum(view.usable.get(device, False) for device in devices))
    stats.gauge("fate.devices.silent", sum(device not in view.reports for device in devices))
