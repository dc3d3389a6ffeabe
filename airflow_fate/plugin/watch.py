"""What is known of the fleet in this process? The state source, begun when somebody first looks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_fate.executor.settings import Settings
from airflow_fate.executor.sources import open_source
from airflow_fate.state.source import FleetView, StateSource


class FleetWatch:
    """One state source for all requests of a process: a server may fork after this is imported, and before it is asked.

    :param read_settings: the ``[fate]`` section.
    """

    def __init__(
        self, read_settings: Callable[[], Settings], open_: Callable[[Settings], StateSource] = open_source
    ) -> None:
        self._read_settings = read_settings
        self._open = open_
        self._lock = threading.Lock()
        self._known: tuple[Settings, StateSource] | None = None

    def look(self) -> tuple[FleetView, float]:
        """What is known now, and after how many silent seconds a device is stale.

        :raises SettingsError: when the section can't be used.
        """
        # Sources are asked by one thread in the scheduler, and by one at a time here.
        with self._lock:
            if self._known is None:
                settings = self._read_settings()
                source = self._open(settings)
                source.start()
                self._known = (settings, source)
            settings, source = self._known
            in_cluster = settings.state_source == "kubernetes"
            return source.snapshot(), settings.pod_stale_after_s if in_cluster else settings.stale_after_s
