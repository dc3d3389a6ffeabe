"""What do we know of a local fleet? What its gateways wrote into the fleet folder; files only, no network.

A heartbeat may ask as often as it likes: a file is read again only when it changed.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_fate.cluster import Fleet
from airflow_fate.messages import DEFAULT_LABEL_PREFIX, DeviceReport, explain
from airflow_fate.messages.labels import decode
from airflow_fate.state.fleetschema import FleetFile
from airflow_fate.state.source import FleetView

_EMPTY = Fleet({}, {}, {})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pod:
    report: DeviceReport
    url: str
    ready: bool


@dataclass(slots=True)
class _File:
    """What was last read from a file; ``pod`` is None when it made no sense."""

    identity: tuple[int, int]
    content: bytes
    pod: _Pod | None


class LocalFleet:
    """The state source of a fleet that ``fate fleet up`` runs.

    :param stale_after_s: a device that was silent for longer is unusable.
    """

    def __init__(
        self,
        fleet_dir: Path,
        label_prefix: str = DEFAULT_LABEL_PREFIX,
        clock: Callable[[], float] = time.time,
        stale_after_s: float = 10.0,
    ) -> None:
        self._fleet_file = fleet_dir / "fleet.json"
        self._pods_dir = fleet_dir / "pods"
        self._label_prefix = label_prefix
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._fleet = _EMPTY
        self._fleet_identity: tuple[int, int] | None = None
        self._files: dict[str, _File] = {}
        self._usable: dict[str, bool] = {}
        self._version = 0

    def start(self) -> None:
        """Nothing to start: files are read when asked for."""

    def stop(self) -> None:
        """Nothing to stop."""

    def snapshot(self) -> FleetView:
        """What the files say now."""
        self._read_fleet()
        written_s = self._read_pods()
        now_s = self._clock()
        pods = {name: file.pod for name, file in self._files.items() if file.pod and name in self._fleet.devices}
        seen_age_s = {name: max(0.0, now_s - written_s[name]) for name in pods}
        usable = {name: pod.ready and seen_age_s[name] <= self._stale_after_s for name, pod in pods.items()}
        if usable != self._usable:
            self._usable = usable
            self._version += 1
        return FleetView(
            fleet=self._fleet,
            reports={name: pod.report for name, pod in pods.items()},
            urls={name: pod.url for name, pod in pods.items()},
            seen_age_s=seen_age_s,
            usable=usable,
            version=self._version,
        )

    def _read_fleet(self) -> None:
        try:
            identity = _identity(self._fleet_file.stat())
            if identity == self._fleet_identity:
                return
            self._fleet_identity = identity
            self._fleet = FleetFile.model_validate_json(self._fleet_file.read_bytes()).to_fleet()
            self._version += 1
        except FileNotFoundError:
            if self._fleet is not _EMPTY:
                self._fleet, self._fleet_identity = _EMPTY, None
                self._version += 1
        except (OSError, ValueError) as error:
            _log.warning("%s ignored: %s", self._fleet_file, _reason(error))

    def _read_pods(self) -> dict[str, float]:
        """Read what changed; device -> when its file was last touched."""
        written_s: dict[str, float] = {}
        try:
            for entry in os.scandir(self._pods_dir):
                name, suffix = os.path.splitext(entry.name)
                if suffix == ".json" and not name.startswith("."):
                    try:
                        written_s[name] = self._read_pod(name, entry)
                    except OSError:
                        continue  # Removed or replaced meanwhile: the next snapshot knows.
        except OSError:
            pass
        for name in self._files.keys() - written_s.keys():
            del self._files[name]
            self._version += 1
        return written_s

    def _read_pod(self, name: str, entry: os.DirEntry[str]) -> float:
        stat = entry.stat(follow_symlinks=False)
        known = self._files.get(name)
        if known is None or known.identity != _identity(stat):
            content = Path(entry.path).read_bytes()
            if known is not None and known.content == content:
                known.identity = _identity(stat)
            else:
                self._files[name] = _File(_identity(stat), content, self._parse(name, content))
                self._version += 1
        return stat.st_mtime

    def _parse(self, name: str, content: bytes) -> _Pod | None:
        try:
            pod = json.loads(content)
            report = decode(pod["metadata"]["labels"], pod["metadata"]["annotations"], self._label_prefix)
            if report is None:
                return None
            if report.device != name or pod["metadata"]["name"] != name:
                raise ValueError(f"it describes {report.device!r}")
            return _Pod(report, _url(pod), _is_ready(pod) and not report.draining)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            _log.warning("%s ignored: %s", self._pods_dir / f"{name}.json", _reason(error))
            return None


def _url(pod: dict[str, Any]) -> str:
    """The gateway's address, from what Kubernetes says of a pod; labels, which others may write, have no say in it."""
    address = ipaddress.ip_address(pod["status"]["podIP"])
    if not address.is_loopback:
        raise ValueError(f"podIP of a local fleet must be a loopback address, got {address}")
    port = int(pod["spec"]["containers"][0]["ports"][0]["containerPort"])
    if not 0 < port < 65536:
        raise ValueError(f"containerPort must be a port, got {port}")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"]["conditions"])


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_ino, stat.st_mtime_ns


def _reason(error: Exception) -> str:
    return explain(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
