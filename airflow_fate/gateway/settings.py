"""What does a gateway know when it starts? Its device and the models, from the folder's ``fleet.json``, and the key.

``$(NAME)`` in the file is the environment's, as in a pod's arguments: one file is good for all pods of a pool.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from airflow_fate.messages import explain

SERVED = ("vllm", "openai")
"""Engines that run by themselves; their server is only asked."""
STARTED = ("llamacpp", "vllm-managed")
"""Engines that the gateway starts, each model from its file."""


class SettingsError(ValueError):
    """A setting is missing or wrong; names the file and the expected form."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LoadRates(_Settings):
    disk: float
    host: float


class ModelSettings(_Settings):
    file: str | None = None
    adapter: str | None = None
    """Of a LoRA adapter: its folder or name, as the server of its base model knows it."""
    weights_gb: float
    load_gb_per_s: LoadRates
    prefill_tps: dict[str, float]
    decode_tps: dict[str, float]
    decode_slowdown: dict[str, float] = {}
    context_slowdown: dict[str, float] = {}
    group_size: int = 1

    @property
    def member_bytes(self) -> float:
        """Weights on each device that serves it."""
        return self.weights_gb * 1e9 / self.group_size


class NodeSettings(_Settings):
    host_gb: float = 0.0


class DeviceSettings(_Settings):
    node: str
    gpu: str
    engine: Literal["llamacpp", "simulated", "vllm", "openai", "vllm-managed"]
    engine_url: str = ""
    """Of an engine that runs by itself, with or without ``/v1``."""
    engine_key_file: str = ""
    """File with the key that such an engine wants to be shown; read with every request, for Secrets change."""
    engine_key_env: str = ""
    """Environment variable with that key."""
    events_url: str = ""
    """Where a vLLM that runs by itself publishes the events of its prefix cache, ``tcp://...``; empty if it doesn't."""
    engine_command: tuple[str, ...] = ("vllm", "serve")
    """Of a vLLM that the gateway runs; the model's file is put before the first option."""
    engine_sleeps: bool = False
    """Whether a vLLM that the gateway runs has ``--enable-sleep-mode``."""
    models: tuple[str, ...] | None = None
    """Of the fleet's models, those that an engine that runs by itself has; None: all."""
    memory_gb: float
    kv_tokens: int
    max_seqs: int
    batch_tokens: int = 0
    """Tokens of a step of the engine; 0: as many as is usual for it."""
    context_tokens: int
    cache_ram_mib: int
    threads: int
    load_timeout_s: Annotated[float, Field(gt=0)] | None = None
    """How long a load may take; None: as long as is usual for the engine."""
    port: int = 0

    @field_validator("engine_url")
    @classmethod
    def _without_version(cls, url: str) -> str:
        return url.rstrip("/").removesuffix("/v1").rstrip("/")

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if (self.engine_key_file or self.engine_key_env) and self.engine not in SERVED:
            raise ValueError(f"engine_key_file and engine_key_env are for {' and '.join(SERVED)} engines")
        if self.engine_key_file and self.engine_key_env:
            raise ValueError("engine_key_file or engine_key_env, not both")
        return self

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if self.engine in SERVED and not self.engine_url.startswith("http"):
            raise ValueError(f"engine_url must be the http:// URL of the {self.engine} server, got {self.engine_url!r}")
        if self.events_url and (self.engine != "vllm" or not self.events_url.startswith("tcp://")):
            raise ValueError(f"events_url must be the tcp:// address of a vllm server's, got {self.events_url!r}")
        return self


class LimitSettings(_Settings):
    """What one client, or one task, may take of a gateway."""

    body_mb: Annotated[float, Field(gt=0)] = 4.0
    """Of a request to the engine."""
    upload_mb: Annotated[float, Field(gt=0)] = 256.0
    """Of one stored output."""
    uploads: Annotated[int, Field(ge=1)] = 32
    """Outputs that are being stored at once."""
    queued: Annotated[int, Field(ge=1)] = 256
    """Requests that wait for the engine."""
    queued_of_one: Annotated[int, Field(ge=1)] = 64
    """Those of one reservation."""
    head_s: Annotated[float, Field(gt=0)] = 10.0
    """Time for a request's head to come."""
    body_s: Annotated[float, Field(gt=0)] = 60.0
    """Time for a request's body to come."""
    unread_s: Annotated[float, Field(gt=0)] = 30.0
    """Time for which a client may read nothing of its answer."""

    @property
    def body_bytes(self) -> int:
        return int(self.body_mb * 1e6)

    @property
    def upload_bytes(self) -> int:
        return int(self.upload_mb * 1e6)


class FleetSettings(_Settings):
    models: dict[str, ModelSettings]
    nodes: dict[str, NodeSettings]
    devices: dict[str, DeviceSettings]
    artifacts_gb: float
    label_prefix: str
    decode_slowdown: float = 0.03
    """Of models that have none of their own, on a simulated engine."""
    prefix_labels: bool = False
    """Whether the hottest prefixes are labels of the pod too, and not in its annotation alone."""
    drain_s: float = 1.0
    """How long requests in flight may take to end after SIGTERM."""
    limits: LimitSettings = LimitSettings()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What one gateway needs to know."""

    device_id: str
    fleet: FleetSettings
    secret: str
    folder: Path
    engine_key: Callable[[], str] = lambda: ""
    """What the engine wants to be shown; empty if nothing."""

    @property
    def device(self) -> DeviceSettings:
        return self.fleet.devices[self.device_id]

    @property
    def servable_models(self) -> dict[str, ModelSettings]:
        """The models that this device's engine can run, whether or not they fit."""
        if self.device.engine in SERVED:
            # How fast it is on which GPU is the planner's affair, and the node may know that GPU by a better name.
            chosen = self.device.models
            return {name: model for name, model in self.fleet.models.items() if chosen is None or name in chosen}
        if self.device.engine in STARTED:
            return {name: model for name, model in self.fleet.models.items() if model.file}
        gpu = self.device.gpu
        return {
            name: model
            for name, model in self.fleet.models.items()
            if gpu in model.prefill_tps and gpu in model.decode_tps
        }

    @property
    def host_bytes(self) -> float:
        return self.fleet.nodes[self.device.node].host_gb * 1e9


def read_settings(folder: Path, device_id: str, environment: Mapping[str, str] = os.environ) -> GatewaySettings:
    """Read a fleet folder.

    :raises SettingsError: when something is missing.
    """
    try:
        text = _expanded((folder / "fleet.json").read_text(encoding="utf-8"), environment)
        fleet = FleetSettings.model_validate_json(text)
    except OSError as error:
        raise SettingsError(f"{folder / 'fleet.json'}: {error.strerror}; `fate fleet up` writes it") from error
    except ValidationError as error:
        raise SettingsError(f"{folder / 'fleet.json'}: {explain(error)}") from error
    if device_id not in fleet.devices:
        raise SettingsError(f"{folder / 'fleet.json'}: no device {device_id!r}; it has {', '.join(fleet.devices)}")
    secret_file = folder / "secret"
    secret = secret_file.read_text().strip() if secret_file.is_file() else ""
    device = fleet.devices[device_id]
    key = engine_key(device.engine_key_env, device.engine_key_file, environment)
    return GatewaySettings(device_id, fleet, secret, folder, key)


def engine_key(key_env: str, key_file: str, environment: Mapping[str, str]) -> Callable[[], str]:
    """A way to read the key of an engine, which is empty where neither a variable nor a file is named.

    :raises SettingsError: when it can't be read.
    """
    if key_env:
        key = environment.get(key_env, "").strip()
        if not _is_key(key):
            raise SettingsError(f"engine_key_env: the environment variable {key_env} has no key")
        return lambda: key
    if not key_file:
        return lambda: ""
    file = Path(key_file)

    def read() -> str:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return key if _is_key(key) else ""

    if not read():
        raise SettingsError(f"engine_key_file: {file} is no file with a key in one line")
    return read


def _is_key(text: str) -> bool:
    """Whether it can be a part of an HTTP header."""
    return bool(text) and text.isascii() and text.isprintable()


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """JSON with the environment's values; what it doesn't hold stays as it is, as in Kubernetes."""

    def value(name: re.Match[str]) -> str:
        text = environment.get(name[1])
        return name[0] if text is None else json.dumps(text)[1:-1]

    return re.sub(r"\$\((\w+)\)", value, text)
