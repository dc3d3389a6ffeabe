"""Where does the state of the fleet come from? The one seam: a source that is cheap to ask, and the view it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airflow_fate.cluster import Fleet
from airflow_fate.messages import DeviceReport


@dataclass(frozen=True, slots=True)
class FleetView:
    """What was known of the fleet at one moment.

    :param reports: by device; a device that was never seen has none.
    :param urls: device -> base URL of its gateway, without ``/v1``.
    :param seen_age_s: device -> seconds since its last sign of life.
    :param usable: device -> whether it is ready, not draining and seen lately; a device without a report isn't.
    :param version: grows whenever anything but ages has changed.
    :param grouped: devices that serve as members of their group only.
    """

    fleet: Fleet
    reports: Mapping[str, DeviceReport] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    seen_age_s: Mapping[str, float] = field(default_factory=dict)
    usable: Mapping[str, bool] = field(default_factory=dict)
    version: int = 0
    grouped: frozenset[str] = frozenset()


class StateSource(Protocol):
    """Knows the fleet. ``snapshot`` neither blocks nor raises: the scheduler's heartbeat calls it."""

    def start(self) -> None:
        """Begin to watch."""

    def stop(self) -> None:
        """End the watch."""

    def snapshot(self) -> FleetView:
        """What is known now."""
