"""What does an engine pod say of itself? Its report, its address, its health, its group. Pure.

Its address is what the API server says, never what a label says: labels can be written by many.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_fate.messages import DeviceReport
from airflow_fate.messages.labels import HEARTBEAT, REPORT, decode

_LWS = "leaderworkerset.sigs.k8s.io"
_AIBRIX_MODEL = "model.aibrix.ai/name"
"""What AIBrix routes to the pod, under the name by which its engine serves it."""


class Ignored(ValueError):
    """A pod that doesn't count; says why."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A member's place in its group; index 0 leads."""

    group: str
    index: int
    size: int


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One engine pod.

    :param report: None where no gateway has reported (yet).
    :param ready: serving, and not about to end.
    :param gpus: requested units by resource name.
    :param tolerations: of ``NoExecute`` taints without a time limit, as (key, value); None stands for any.
    :param sign: changes with each sign of life of its gateway.
    """

    name: str
    uid: str
    node: str
    url: str
    report: DeviceReport | None
    ready: bool
    membership: Membership | None = None
    gpus: Mapping[str, int] = field(default_factory=dict)
    tolerations: tuple[tuple[str | None, str | None], ...] = ()
    sign: bytes = b""

    def tolerates(self, taint: tuple[str, str]) -> bool:
        """Whether the pod may stay on a node with this taint for good."""
        key, value = taint
        return any(of in (None, key) and to in (None, value) for of, to in self.tolerations)


def read_pod(
    pod: Mapping[str, Any], label_prefix: str, gateway_port: int, accounts: frozenset[str] = frozenset()
) -> PodFacts | None:
    """The facts of a pod object; None while it has no node or address, or when it has ended.

    :param gateway_port: where gateways listen; the only port to which requests may go.
    :param accounts: ServiceAccounts whose pods count; empty for any.
    :raises Ignored: when it must not count.
    """
    try:
        meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        name, account = meta["name"], spec.get("serviceAccountName") or "default"
        if accounts and account not in accounts:
            raise Ignored(f"its ServiceAccount {account!r} is not one of {', '.join(sorted(accounts))}")
        if status.get("phase") in ("Succeeded", "Failed") or not spec.get("nodeName") or not status.get("podIP"):
            return None
        labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
        report = decode(labels, notes, label_prefix)
        if report is not None and report.device != name:
            raise Ignored(f"its report describes {report.device!r}")
        named = labels.get(_AIBRIX_MODEL)
        if named and report is not None and report.serves is not None and named not in report.serves:
            served = ", ".join(report.serves) or "nothing"
            raise Ignored(f"its label {_AIBRIX_MODEL} says {named!r}, its gateway serves {served}")
        ready = any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions") or ()
        )
        return PodFacts(
            name=name,
            uid=meta["uid"],
            node=spec["nodeName"],
            url=_url(status["podIP"], gateway_port),
            report=report,
            ready=ready and "deletionTimestamp" not in meta and not (report and report.draining),
            membership=_membership(labels, notes, label_prefix),
            gpus=_requested(spec),
            tolerations=_tolerations(spec),
            sign=_digest(notes.get(f"{label_prefix}/{HEARTBEAT}", ""), notes.get(f"{label_prefix}/{REPORT}", "")),
        )
    except Ignored:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Ignored(f"it makes no sense: {error!r}") from error


def _digest(*texts: str) -> bytes:
    """A report may be 240 KiB long, and there may be a thousand."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).digest()


def _url(address: str, port: int) -> str:
    ip = ipaddress.ip_address(address)
    return f"http://[{ip}]:{port}" if ip.version == 6 else f"http://{ip}:{port}"


def _membership(labels: Mapping[str, str], notes: Mapping[str, str], prefix: str) -> Membership | None:
    if f"{_LWS}/name" in labels:
        group = f"leaderworkerset/{labels[f'{_LWS}/name']}/{labels[f'{_LWS}/group-index']}"
        index, size = labels[f"{_LWS}/worker-index"], notes[f"{_LWS}/size"]
    elif f"{prefix}/group" in labels:
        group = f"group/{labels[f'{prefix}/group']}"
        index, size = labels[f"{prefix}/group-index"], labels[f"{prefix}/group-size"]
    else:
        return None
    membership = Membership(group, int(index), int(size))
    if not 0 <= membership.index < membership.size:
        raise ValueError(f"{group}: a member's index must be below its size {size}, got {index}")
    return membership


def _requested(spec: Mapping[str, Any]) -> dict[str, int]:
    """GPUs of all containers. They are limits: Kubernetes has no overcommitment of such resources."""
    units: dict[str, int] = {}
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        for resource, count in ((container.get("resources") or {}).get("limits") or {}).items():
            if resource.startswith("nvidia.com/"):
                units[resource] = units.get(resource, 0) + int(count)
    return units


def _tolerations(spec: Mapping[str, Any]) -> tuple[tuple[str | None, str | None], ...]:
    return tuple(
        (toleration.get("key") or None, None if toleration.get("operator") == "Exists" else toleration.get("value", ""))
        for toleration in spec.get("tolerations") or ()
        if toleration.get("effect") in (None, "", "NoExecute") and toleration.get("tolerationSeconds") is None
    )
