"""Where do persistent volumes come from? A folder of the kubelet for each claim; it goes when the claim goes."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.cluster.api import Api, ApiError, Object

STORAGE_CLASS = "folders"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_VOLUMES = "/api/v1/persistentvolumes"
NOT_THERE, CONFLICT = 404, 409
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claims:
    """:param folder: in which each claim is ``NAMESPACE/NAME``."""

    api: Api
    folder: Path

    async def run(self) -> None:
        await self.api.apply(f"{_CLASSES}/{STORAGE_CLASS}", storage_class())
        known: dict[str, Object] = {}
        async for event in self.api.follow("/api/v1/persistentvolumeclaims"):
            if event.kind == "DELETED":
                claims = {uid: claim for uid, claim in known.items() if uid != event.item["metadata"]["uid"]}
            else:
                items = event.items if event.kind == "SYNCED" else (event.item,)
                claims = {} if event.kind == "SYNCED" else dict(known)
                claims |= {claim["metadata"]["uid"]: claim for claim in items}
            try:
                for uid in known.keys() - claims.keys():
                    await self._remove(known[uid])
                for claim in claims.values():
                    if claim["spec"].get("storageClassName") == STORAGE_CLASS and not claim["spec"].get("volumeName"):
                        await self._provide(claim)
            except (httpx.TransportError, ApiError) as error:
                log.warning("persistent volumes: %s", error)
            known = claims

    async def _provide(self, claim: Object) -> None:
        try:
            await self.api.create(_VOLUMES, volume(claim, self._place(claim)))
        except ApiError as error:
            if error.code != CONFLICT:
                raise

    async def _remove(self, claim: Object) -> None:
        shutil.rmtree(self._place(claim), ignore_errors=True)
        try:
            await self.api.delete(f"{_VOLUMES}/{_name(claim)}")
        except ApiError as error:
            if error.code != NOT_THERE:
                raise

    def _place(self, claim: Object) -> Path:
        return self.folder / str(claim["metadata"]["namespace"]) / str(claim["metadata"]["name"])


def storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "test-cluster/folders",
        "reclaimPolicy": "Retain",
    }


def volume(claim: Object, place: Path) -> Object:
    """A PersistentVolume for this claim alone."""
    meta = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _name(claim)},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            # Who removes the claim's folder removes this as well.
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(place)},
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}
            | {key: meta[key] for key in ("namespace", "name", "uid")},
        },
    }


def _name(claim: Object) -> str:
    return f"claim-{claim['metadata']['uid']}"
