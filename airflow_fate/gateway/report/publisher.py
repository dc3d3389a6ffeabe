"""When and where is the device report published? On its pod: one on Kubernetes, or a file that looks like one."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from airflow_fate.atomic import write_whole
from airflow_fate.messages import DEFAULT_LABEL_PREFIX, DeviceReport
from airflow_fate.messages.labels import encode

LOCAL_INTERVAL_S = 0.2
HEARTBEAT_S = 2.0
_log = logging.getLogger(__name__)


class Pod(Protocol):
    """Where reports go."""

    async def write(self, report: DeviceReport) -> None:
        """:raises OSError, ValueError: when that failed."""

    async def remove(self) -> None:
        """Say no more of the device."""


@dataclass(frozen=True, slots=True)
class PodFile:
    """A file that looks like the pod that this gateway would be."""

    folder: Path
    device: str
    node: str
    port: int
    label_prefix: str = DEFAULT_LABEL_PREFIX
    prefix_labels: bool = False
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def path(self) -> Path:
        return self.folder / f"{self.device}.json"

    async def write(self, report: DeviceReport) -> None:
        write_whole(self.path, json.dumps(self._document(report)))

    async def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _document(self, report: DeviceReport) -> dict[str, Any]:
        labels, annotations = encode(report, self.label_prefix, prefix_labels=self.prefix_labels)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.device, "uid": self.uid, "labels": labels, "annotations": annotations},
            "spec": {
                "nodeName": self.node,
                "containers": [{"name": "gateway", "ports": [{"name": "http", "containerPort": self.port}]}],
            },
            "status": {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "startTime": datetime.fromtimestamp(report.gateway_started, UTC).isoformat(),
                "conditions": [{"type": "Ready", "status": "False" if report.draining else "True"}],
            },
        }


class Schedule:
    """When to write: at once after a change but not twice within the interval, and at each heartbeat. Pure."""

    def __init__(self, interval_s: float, heartbeat_s: float) -> None:
        self._interval_s = interval_s
        self._heartbeat_s = heartbeat_s
        self._written_s = float("-inf")
        self._changed = True

    def changed(self) -> None:
        self._changed = True

    def written(self, now_s: float) -> None:
        self._written_s = now_s
        self._changed = False

    def due_in_s(self, now_s: float) -> float:
        """Seconds until the next write; 0 when it is due."""
        pause_s = self._interval_s if self._changed else self._heartbeat_s
        return max(0.0, self._written_s + pause_s - now_s)


class Publisher:
    """Publishes a report whenever the schedule says so."""

    def __init__(
        self,
        pod: Pod,
        report: Callable[[], DeviceReport],
        interval_s: float = LOCAL_INTERVAL_S,
        heartbeat_s: float = HEARTBEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pod = pod
        self._report = report
        self._schedule = Schedule(interval_s, heartbeat_s)
        self._clock = clock
        self._wake = asyncio.Event()
        self._failure = ""

    def changed(self) -> None:
        """Something changed that others should see soon."""
        self._schedule.changed()
        self._wake.set()

    async def tick(self) -> float:
        """Write if it is due; the seconds until the next tick."""
        if self._schedule.due_in_s(self._clock()) == 0:
            # Before the write, not after it: what changes meanwhile isn't in this report.
            self._schedule.written(self._clock())
            try:
                await self._pod.write(self._report())
                self._failure = ""
            except (OSError, ValueError) as error:
                # A full disk or a report that fits nowhere must not end the serving.
                self._schedule.changed()
                if str(error) != self._failure:
                    self._failure = str(error)
                    _log.warning("device report not written, to be tried again: %s", error)
        return self._schedule.due_in_s(self._clock())

    async def run(self) -> None:
        """Publish until cancelled, then withdraw the pod."""
        try:
            while True:
                self._wake.clear()
                due_in_s = await self.tick()
                try:
                    async with asyncio.timeout(due_in_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            await self._pod.remove()
