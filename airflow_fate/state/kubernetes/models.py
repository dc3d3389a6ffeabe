"""Which models may be placed, and how fast are they? A file, for no label can say it; a ConfigMap is mounted as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_fate.cluster import ModelSpec
from airflow_fate.messages import explain
from airflow_fate.state.fleetschema import ModelPart

_log = logging.getLogger(__name__)


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, ModelPart]


class ModelsFile:
    """The section ``models`` of a fleet file, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._complained = ""
        self.models: Mapping[str, ModelSpec] = {}

    def read(self) -> Mapping[str, ModelSpec]:
        """Read it again where it changed; one that can't be used leaves the last good one, with one warning."""
        try:
            stat = self._path.stat()
            identity = (stat.st_ino, stat.st_mtime_ns)
            if identity != self._identity:
                self._identity = identity
                content = _Content.model_validate(yaml.safe_load(self._path.read_text(encoding="utf-8")))
                self.models = {name: part.to_spec(name) for name, part in content.models.items()}
                self._complained = ""
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = explain(error) if isinstance(error, ValidationError) else str(error)
            if reason != self._complained:
                self._complained = reason
                _log.warning("[fate] models_file %s ignored: %s", self._path, reason)
        return self.models
