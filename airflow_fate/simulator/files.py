"""What do a workload file and a fleet file say? ``W.json`` and ``F.json``, read and checked.

A fleet that ``fate fleet up`` runs will do as well: its ``fleet.yaml``, or the ``fleet.json`` in its folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.simulator.checks import FileError, check_fits, check_fleet, check_workload, explain
from airflow_fate.simulator.schema import FleetFile, LLMPart, StagePart, WorkloadFile
from airflow_fate.simulator.workload import Workload
from airflow_fate.simulator.writing import GB, write_fleet, write_workload
from airflow_fate.state.fleetfile import FleetFileError, parse_fleet_file
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

__all__ = ["FileError", "Workload", "read_fleet", "read_inputs", "read_workload", "write_fleet", "write_workload"]

FLEET = "a fleet: a fleet.yaml, the fleet.json that `fate fleet up` writes, or a list of devices (docs/benchmark.md)"

_File = TypeVar("_File", bound=BaseModel)


def read_inputs(workload: Path, fleet: Path) -> tuple[Workload, Fleet]:
    """A workload and the fleet that is to run it.

    :raises FileError: when either can't be used, or the fleet can't hold a model of the workload.
    """
    what, where = read_workload(workload), read_fleet(fleet)
    try:
        check_fits(what.workflows, where, str(fleet))
    except FileError as error:
        raise FileError(f"{workload}: {error}") from error
    return what, where


def read_workload(path: Path) -> Workload:
    """Read and check a workload file.

    :raises FileError: naming the file, the place and the expected form.
    """
    file = _read(path, WorkloadFile, "a workload in JSON, an object with name and workflows")
    try:
        check_workload(file)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    return Workload(
        file.name or path.stem,
        tuple(
            Workflow(
                part.id,
                {stage.id: _stage(stage) for stage in part.stages},
                tuple(part.edges),
                part.arrival_s,
                part.tenant,
            )
            for part in file.workflows
        ),
        {
            StageRef(part.id, stage.id): stage.output_tokens
            for part in file.workflows
            for stage in part.stages
            if isinstance(stage, LLMPart)
        },
    )


def read_fleet(path: Path) -> Fleet:
    """Read and check a fleet file, of whichever form.

    :raises FileError: naming the file, the place and the expected form.
    """
    if (running := _running_fleet(path)) is not None:
        return running
    file = _read(path, FleetFile, FLEET)
    try:
        check_fleet(file)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    return Fleet(
        nodes={part.id: Node(part.id, part.zone, part.gbps, part.host_gb * GB) for part in file.nodes},
        devices={
            part.id: Device(part.id, part.node, part.gpu, part.memory_gb * GB, part.kv_tokens, part.max_seqs)
            for part in file.devices
        },
        models={
            name: ModelSpec(
                name,
                weights_bytes=part.weights_gb * GB,
                disk_bytes_per_s=part.load_gb_per_s.disk * GB,
                host_bytes_per_s=part.load_gb_per_s.host * GB,
                prefill_tps=part.prefill_tps,
                decode_tps=part.decode_tps,
                group_size=part.group_size,
            )
            for name, part in file.models.items()
        },
        groups={part.id: DeviceGroup(part.id, tuple(part.devices)) for part in file.groups},
        decode_slowdown=file.decode_slowdown,
        latency_s=file.latency_s,
    )


def _running_fleet(path: Path) -> Fleet | None:
    """The fleet of a file for ``fate fleet up``; None where it is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not _names_its_devices(text):
        return None
    try:
        return parse_fleet_file(text).to_fleet()
    except FleetFileError as error:
        raise FileError(f"{path}: {error}") from error


def _names_its_devices(text: str) -> bool:
    """Whether devices are a mapping by name, not a list: what tells the two forms apart. YAML reads JSON, too."""
    if text.lstrip().startswith(("{", "[")):
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            return False
    else:
        try:
            raw = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError):
            return True
    return isinstance(raw, dict) and isinstance(raw.get("devices"), dict)


def _read(path: Path, shape: type[_File], expected: str) -> _File:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}; expected {expected}") from error
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: must be JSON: {error}; expected {expected}") from error
    if not isinstance(raw, dict):
        raise FileError(f"{path}: must be {expected}, got {type(raw).__name__}")
    try:
        return shape.model_validate(raw)
    except ValidationError as error:
        raise FileError(f"{path}: {explain(error)}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; JSON itself would let the last one win."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise FileError(f"each key of an object must be given once, got {max(keys, key=keys.count)!r} twice")
    return made


def _stage(part: StagePart) -> Stage:
    if not isinstance(part, LLMPart):
        return Stage(part.id, StageKind.TOOL, output_bytes=part.output_bytes, duration_s=part.duration_s)
    return Stage(
        part.id,
        StageKind.LLM,
        part.model,
        part.prompts,
        part.prompt_tokens,
        part.expected_output_tokens,
        tuple(Segment(segment.key, segment.tokens) for segment in part.prefix),
        part.continues,
        part.output_bytes,
        part.max_shards,
    )
