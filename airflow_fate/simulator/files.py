"""What do a workload file and a fleet file say? ``W.json`` or traces, and a fleet of any form, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from airflow_fate.cluster import Fleet
from airflow_fate.messages import explain
from airflow_fate.simulator.checks import FileError, check_fits, check_workload
from airflow_fate.simulator.otel import is_trace, workload_of
from airflow_fate.simulator.schema import KINDS, LLMPart, StagePart, WorkloadFile
from airflow_fate.simulator.workload import Workload
from airflow_fate.simulator.writing import write_fleet, write_workload
from airflow_fate.state.fleetfile import FleetFileError, parse_json, read_fleet_file
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

__all__ = ["FileError", "Workload", "read_fleet", "read_inputs", "read_workload", "write_fleet", "write_workload"]

_WORKLOAD = "a workload in JSON, an object with name and workflows, or OpenTelemetry traces"


def read_inputs(
    workload: Path, fleet: Path, models: Mapping[str, str] = MappingProxyType({})
) -> tuple[Workload, Fleet]:
    """A workload and the fleet that is to run it.

    :param models: as for :func:`read_workload`.
    :raises FileError: when either can't be used, or the fleet can't hold a model of the workload.
    """
    read, known_fleet = read_workload(workload, models), read_fleet(fleet)
    try:
        check_fits(read.workflows, known_fleet, str(fleet))
    except FileError as error:
        raise FileError(f"{workload}: {error}") from error
    return read, known_fleet


def read_workload(path: Path, models: Mapping[str, str] = MappingProxyType({})) -> Workload:
    """Read and check a workload file, or a file of OpenTelemetry traces.

    :param models: model in the file -> the fleet's that stands in its place.
    :raises FileError: naming the file, the place and the expected form.
    """
    document = _read_document(path)
    try:
        read = workload_of(path.stem, document) if is_trace(document) else _of_file(document, path.stem)
        return _renamed(read, models)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def _renamed(workload: Workload, models: Mapping[str, str]) -> Workload:
    known = {stage.model for workflow in workload.workflows for stage in workflow.stages.values() if stage.is_llm}
    if unknown := sorted(models.keys() - known):
        raise FileError(f"has no model {unknown[0]!r} that another could stand for; it has {', '.join(sorted(known))}")
    if not models:
        return workload
    workflows = (
        replace(
            workflow,
            stages={
                name: replace(stage, model=models.get(stage.model, stage.model))
                for name, stage in workflow.stages.items()
            },
        )
        for workflow in workload.workflows
    )
    return replace(workload, workflows=tuple(workflows))


def _of_file(document: Mapping[str, Any], name: str) -> Workload:
    try:
        file = WorkloadFile.model_validate(document)
    except ValidationError as error:
        raise FileError(explain(error, tags=KINDS)) from error
    check_workload(file)
    return Workload(
        file.name or name,
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
    """Read and check a fleet file.

    :raises FileError: naming the file, the place and the expected form.
    """
    try:
        return read_fleet_file(path).to_fleet()
    except FleetFileError as error:
        raise FileError(str(error)) from error


def _read_document(path: Path) -> dict[str, Any]:
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}; expected {_WORKLOAD}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: must be JSON: {error}; expected {_WORKLOAD}") from error
    if not isinstance(raw, dict):
        raise FileError(f"{path}: must be {_WORKLOAD}, got {type(raw).__name__}")
    return raw


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
