"""With what environment, command and arguments does a container start?

As Kubernetes says it: ``envFrom``, then ``env`` in order, with ``$(NAME)`` replaced. Besides, three rules of a machine
that all pods share: ``POD_IP`` is always there, ``0.0.0.0`` becomes the pod's own address, and the Python that the
tests run with comes first in ``PATH``.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

from tests.cluster.api import Api, ApiError, Object
from tests.cluster.kubelet.nodes import HOST_IP

NOT_THERE = 404
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][-.\w]*)\)")
_ANY_ADDRESS = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])")
_QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]*)")
_UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", 1)},
}


class ConfigError(RuntimeError):
    """What a pod names is not there, or is nothing that this kubelet plays."""


@dataclass(frozen=True)
class Lookup:
    """ConfigMaps and Secrets of a namespace."""

    api: Api
    namespace: str

    async def data(self, kind: str, name: str, optional: bool = False) -> Mapping[str, bytes]:
        """Keys and contents of ``configmaps`` or ``secrets`` ``name``; empty when it is optional and not there.

        :raises ConfigError: it is not there.
        """
        try:
            document = await self.api.get(f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")
        except ApiError as error:
            if error.code != NOT_THERE:
                raise
            if optional:
                return {}
            raise ConfigError(f"{kind.removesuffix('s')} {self.namespace}/{name} not found") from None
        plain = {key: value.encode() for key, value in (document.get("data") or {}).items() if kind == "configmaps"}
        coded = document.get("data" if kind == "secrets" else "binaryData") or {}
        return {**plain, **{key: base64.b64decode(value) for key, value in coded.items()}}

    async def key(self, kind: str, reference: Object) -> str | None:
        optional = reference.get("optional", False)
        data = await self.data(kind, reference["name"], optional)
        if reference["key"] not in data:
            if optional:
                return None
            raise ConfigError(f"no key {reference['key']} in {kind.removesuffix('s')} {reference['name']}")
        return data[reference["key"]].decode()


@dataclass(frozen=True)
class Machine:
    """What a container finds besides what its pod says.

    :param api_host: and ``api_port``: where the API server is.
    :param keep: folders that must stay, whatever volumes cover: this Python's, this repository.
    """

    api_host: str
    api_port: int
    keep: tuple[str, ...] = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[3]))

    def environment(self, pod: Object, pod_ip: str, home: Path) -> dict[str, str]:
        # Not resolved: what the tests run with may be a virtual environment, and its Python a link out of it.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {
            "PATH": path,
            "HOME": str(home),
            "HOSTNAME": pod["metadata"]["name"],
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "POD_IP": pod_ip,
            "KUBERNETES_SERVICE_HOST": self.api_host,
            "KUBERNETES_SERVICE_PORT": str(self.api_port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(self.api_port),
        }


async def resolve(
    pod: Object, container: Object, pod_ip: str, base: Mapping[str, str], lookup: Lookup
) -> dict[str, str]:
    """All variables of the container.

    :raises ConfigError: for a reference to nothing.
    """
    variables: dict[str, str] = dict(base)
    for source in container.get("envFrom", ()):
        for kind, field in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
            if reference := source.get(field):
                data = await lookup.data(kind, reference["name"], reference.get("optional", False))
                variables |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
    for variable in container.get("env", ()):
        origin = variable.get("valueFrom")
        value = expand(variable.get("value", ""), variables)
        if origin:
            referred = await _referred(origin, pod, container, pod_ip, lookup)
            if referred is None:
                continue
            value = referred
        variables[variable["name"]] = value
    return {key: at_pod(value, pod_ip) for key, value in variables.items()}


async def _referred(origin: Object, pod: Object, container: Object, pod_ip: str, lookup: Lookup) -> str | None:
    if reference := origin.get("fieldRef"):
        return field(pod, pod_ip, reference["fieldPath"])
    if reference := origin.get("resourceFieldRef"):
        return resource(container, reference)
    if reference := origin.get("configMapKeyRef"):
        return await lookup.key("configmaps", reference)
    if reference := origin.get("secretKeyRef"):
        return await lookup.key("secrets", reference)
    raise ConfigError(f"this kubelet knows no {', '.join(origin)}")


def field(pod: Object, pod_ip: str, path: str) -> str:
    """The downward API: what a pod may know of itself.

    :raises ConfigError: for a path that it does not have.
    """
    if keyed := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = pod["metadata"].get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(pod["metadata"][path.removeprefix("metadata.")])
    if path in ("spec.nodeName", "spec.serviceAccountName"):
        return str(pod["spec"].get(path.removeprefix("spec."), ""))
    if path in ("status.podIP", "status.podIPs"):
        return pod_ip
    if path in ("status.hostIP", "status.hostIPs"):
        return HOST_IP
    raise ConfigError(f"a pod has no field {path}")


def resource(container: Object, reference: Object) -> str:
    """A container's limit or request, in units of the reference's divisor, rounded up.

    :raises ConfigError: the container does not state it.
    """
    bound, _, name = reference["resource"].partition(".")
    stated = container.get("resources", {}).get(bound, {}).get(name)
    if stated is None:
        raise ConfigError(f"container {container['name']} states no {reference['resource']}")
    divisor = quantity(str(reference.get("divisor") or "1")) or Decimal(1)
    return str((quantity(str(stated)) / divisor).to_integral_value(ROUND_CEILING))


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity (``500m``, ``2Gi``) as a number."""
    parts = _QUANTITY.fullmatch(text)
    if not parts or parts[2] not in _UNITS:
        raise ConfigError(f"{text!r} is no quantity")
    return Decimal(parts[1]) * _UNITS[parts[2]]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced where there is such a variable; ``$$`` is a dollar."""
    return _REFERENCE.sub(
        lambda reference: "$" if reference[0] == "$$" else variables.get(reference[1], reference[0]), text
    )


def at_pod(text: str, pod_ip: str) -> str:
    """``0.0.0.0``, all addresses of a pod, is one here: the machine's other addresses are other pods'."""
    return _ANY_ADDRESS.sub(pod_ip, text)
