"""What lies in a pod's volumes, and where on this machine?

Each volume is a folder of its pod's folder, filled when the pod starts and again when it is refreshed (a ConfigMap or a
token may be new by then). The sandbox puts it at its mount paths.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.api import Api, Object
from tests.cluster.kubelet import environment
from tests.cluster.kubelet.environment import ConfigError, Lookup
from tests.cluster.kubelet.sandbox import Mount

# As the kubelet does it: a token is renewed when four fifths of its time are over.
RENEW_AT = 0.8
TOKEN_S = 3600
FILLED = ("configMap", "secret", "projected", "downwardAPI")


@dataclass(frozen=True)
class _Token:
    text: str
    renew_at: float


@dataclass
class Volumes:
    """The volumes of one pod.

    :param pod: its object, as it was when it came.
    :param folder: of its own.
    :param claims: where persistent volumes lie: they outlive pods.
    """

    pod: Object
    pod_ip: str
    folder: Path
    claims: Path
    api: Api
    _tokens: dict[tuple[str, int], _Token] = field(default_factory=dict)

    async def fill(self) -> None:
        """Makes all volumes, or makes them as they should be now.

        :raises ConfigError: one can't be made, as when a ConfigMap is not there (yet).
        """
        for volume in self.pod["spec"].get("volumes", ()):
            files = await self._files(volume)
            place = self._place(volume)
            if files is not None:
                write(place, files, _mode(volume))

    def mounts(self, container: Object) -> tuple[Mount, ...]:
        """Where the container sees them.

        :raises ConfigError: for a volume that the pod does not have.
        """
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", ())}
        mounts = []
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in volumes:
                raise ConfigError(f"no volume {mount['name']}")
            volume = volumes[mount["name"]]
            source = self._place(volume) / mount.get("subPath", "")
            if not source.exists():
                source.mkdir(parents=True)
            # Who writes into a ConfigMap's files would write into nothing.
            read_only = mount.get("readOnly", False) or any(kind in volume for kind in FILLED)
            mounts.append(Mount(str(source), mount["mountPath"], read_only))
        return tuple(mounts)

    def _place(self, volume: Object) -> Path:
        place = self.folder / "volumes" / str(volume["name"])
        if claim := volume.get("persistentVolumeClaim"):
            place = self.claims / str(self.pod["metadata"]["namespace"]) / str(claim["claimName"])
        elif path := volume.get("hostPath"):
            place = Path(path["path"])
            if not place.exists():
                raise ConfigError(f"hostPath {place} is not there, and this kubelet makes nothing on its machine")
            return place
        place.mkdir(parents=True, exist_ok=True)
        return place

    async def _files(self, volume: Object) -> Mapping[str, bytes] | None:
        """Relative path -> content; ``None`` for a volume that the pod fills itself."""
        if source := volume.get("projected"):
            contents: dict[str, bytes] = {}
            for part in source["sources"]:
                contents |= await self._part(part)
            return contents
        for kind in FILLED:
            if kind in volume:
                source = volume[kind]
                # A Secret has another key for its name as a volume than as a part of one.
                return await self._part({kind: {**source, "name": source.get("secretName") or source.get("name")}})
        if any(kind in volume for kind in ("emptyDir", "persistentVolumeClaim", "hostPath")):
            return None
        raise ConfigError(f"volume {volume['name']}: this kubelet knows no {', '.join(volume.keys() - {'name'})}")

    async def _part(self, part: Object) -> Mapping[str, bytes]:
        lookup = Lookup(self.api, self.pod["metadata"]["namespace"])
        for kind, plural in (("configMap", "configmaps"), ("secret", "secrets")):
            if source := part.get(kind):
                data = await lookup.data(plural, source["name"], source.get("optional", False))
                return select(data, source.get("items"), source.get("optional", False))
        if "downwardAPI" in part:
            items: Iterable[Object] = part["downwardAPI"].get("items", ())
            return {
                item["path"]: environment.field(self.pod, self.pod_ip, item["fieldRef"]["fieldPath"]).encode()
                for item in items
            }
        if source := part.get("serviceAccountToken"):
            return {source["path"]: (await self._token(source)).encode()}
        raise ConfigError(f"this kubelet knows no volume source {', '.join(part)}")

    async def _token(self, source: Object) -> str:
        audience, lifetime_s = source.get("audience", ""), source.get("expirationSeconds", TOKEN_S)
        kept = self._tokens.get((audience, lifetime_s))
        if kept and time.monotonic() < kept.renew_at:
            return kept.text
        meta, account = self.pod["metadata"], self.pod["spec"].get("serviceAccountName", "default")
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": lifetime_s,
                # Such a token ends with its pod.
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]},
            },
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        given = (await self.api.create(path, request))["status"]["token"]
        self._tokens[audience, lifetime_s] = _Token(given, time.monotonic() + RENEW_AT * lifetime_s)
        return str(given)


def select(data: Mapping[str, bytes], items: Iterable[Object] | None, optional: bool = False) -> Mapping[str, bytes]:
    """The keys that ``items`` name, at their paths; all of them by default.

    :raises ConfigError: a key is not there.
    """
    if items is None:
        return data
    contents = {}
    for item in items:
        if item["key"] in data:
            contents[item["path"]] = data[item["key"]]
        elif not optional:
            raise ConfigError(f"no key {item['key']}")
    return contents


def _mode(volume: Object) -> int:
    """Permissions of the volume's files; Kubernetes' own default."""
    (source,) = (volume[kind] for kind in FILLED if kind in volume)
    return int(source.get("defaultMode", 0o644))


def write(folder: Path, files: Mapping[str, bytes], mode: int) -> None:
    """Makes the folder hold just these files; who reads one meanwhile sees the old or the new."""
    for path, content in files.items():
        target = folder / path
        if target.exists() and target.read_bytes() == content:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(content)
        partial.chmod(mode)
        partial.rename(target)
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        if str(file.relative_to(folder)) not in files:
            file.unlink()
