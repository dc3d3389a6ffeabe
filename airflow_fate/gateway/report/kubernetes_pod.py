"""How does a gateway on Kubernetes publish its report? By server-side apply to the metadata of its own pod.

It applies all that it has to say each time, under one field manager: what it says no more, the API server takes away,
and what others say on the pod stays theirs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow_fate.kube.api import Api, ApiTrouble, Object
from airflow_fate.messages import DEFAULT_LABEL_PREFIX, DeviceReport
from airflow_fate.messages.labels import HEARTBEAT, encode

FIELD_MANAGER = "fate-gateway"
INTERVAL_S = 2.0
HEARTBEAT_S = (110.0, 130.0)
"""A thousand pods then make less than ten requests a second, while nothing happens."""
WITHDRAWAL_S = 3.0
_log = logging.getLogger(__name__)


def heartbeat_s() -> float:
    """Seconds between two signs of life; each gateway's own, so that they don't all come at once after an outage."""
    return random.uniform(*HEARTBEAT_S)


class NotPublished(OSError):
    """The API server didn't take the report."""


@dataclass(frozen=True, slots=True)
class KubernetesPod:
    """The pod in which this gateway runs.

    :param uid: of this very pod: its name may soon be another's.
    :param prefix_labels: whether the hottest prefixes are labels too.
    :param clock: Unix seconds.
    """

    api: Api
    namespace: str
    name: str
    uid: str
    label_prefix: str = DEFAULT_LABEL_PREFIX
    prefix_labels: bool = False
    clock: Callable[[], float] = time.time

    async def write(self, report: DeviceReport) -> None:
        """:raises NotPublished: when the API server didn't take it."""
        labels, annotations = encode(report, self.label_prefix, prefix_labels=self.prefix_labels)
        # An apply that changes nothing is no event for those who watch; this makes it a sign of life.
        beat = {f"{self.label_prefix}/{HEARTBEAT}": str(int(self.clock()))}
        try:
            await self._apply(labels, annotations | beat)
        except ApiTrouble as error:
            raise NotPublished(str(error)) from error

    async def remove(self) -> None:
        """Take back all that was said; a pod that is gone meanwhile is no trouble."""
        try:
            async with asyncio.timeout(WITHDRAWAL_S):
                await self._apply({}, {})
        except (ApiTrouble, TimeoutError) as error:
            _log.warning("device report not withdrawn: %s", error)

    async def _apply(self, labels: Mapping[str, str], annotations: Mapping[str, str]) -> None:
        meta: Object = {"name": self.name, "uid": self.uid, "labels": labels, "annotations": annotations}
        item: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}
        await self.api.apply(f"/api/v1/namespaces/{self.namespace}/pods/{self.name}", item, FIELD_MANAGER)
