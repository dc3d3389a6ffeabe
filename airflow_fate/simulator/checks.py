"""What is wrong with a workload file whose shape is right?

Names that don't exist, cycles, prompts shorter than their prefix, models that fit nowhere. Each check raises
:class:`FileError` without the file's name; the reader adds it.
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.schema import LLMPart, WorkflowPart, WorkloadFile
from airflow_fate.workflow import Workflow


class FileError(ValueError):
    """A file that can't be used; names the file, the place in it and the expected form."""


def check_workload(file: WorkloadFile) -> None:
    _unique("workflows", (workflow.id for workflow in file.workflows))
    for index, workflow in enumerate(file.workflows):
        _check_workflow(f"workflows[{index}]", workflow)


def check_fits(workflows: Iterable[Workflow], fleet: Fleet, fleet_name: str) -> None:
    """Whether each model is one of the fleet's and fits on a device or group of it."""
    fits: dict[str, str | None] = {}
    for index, workflow in enumerate(workflows):
        for number, stage in enumerate(workflow.stages.values()):
            if not stage.is_llm:
                continue
            if stage.model not in fits:
                fits[stage.model] = why_not(stage.model, fleet, fleet_name)
            if misfit := fits[stage.model]:
                at = f"workflows[{index}].stages[{number}].model"
                ask = "" if stage.model in fleet.models else f"; --models {stage.model}=NAME has another stand for it"
                raise FileError(f"{at}: {misfit}{ask}")


def why_not(model: str, fleet: Fleet, fleet_name: str) -> str | None:
    """Why no place of the fleet can serve the model; None where one can."""
    return None if any(fleet.can_hold(place, model) for place in fleet.places) else _misfit(model, fleet, fleet_name)


def _check_workflow(place: str, workflow: WorkflowPart) -> None:
    _unique(f"{place}.stages", (stage.id for stage in workflow.stages))
    stages = {stage.id: stage for stage in workflow.stages}
    seen: set[tuple[str, str]] = set()
    for index, edge in enumerate(workflow.edges):
        for end, name in enumerate(edge):
            if name not in stages:
                known = _one_of("stage", stages)
                raise FileError(f"{place}.edges[{index}][{end}]: must be {known} of this workflow, got {name!r}")
        if edge in seen:
            raise FileError(f"{place}.edges[{index}]: must be listed once, got {list(edge)!r} again")
        seen.add(edge)
    graph = nx.DiGraph(workflow.edges)
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [str(parent) for parent, _ in nx.find_cycle(graph)]
        raise FileError(f"{place}.edges: must have no cycle, got {' -> '.join([*cycle, cycle[0]])}")
    for index, stage in enumerate(workflow.stages):
        if isinstance(stage, LLMPart):
            _check_prompt(f"{place}.stages[{index}]", stage, workflow)


def _check_prompt(place: str, stage: LLMPart, workflow: WorkflowPart) -> None:
    shared = sum(segment.tokens for segment in stage.prefix)
    if shared > stage.prompt_tokens:
        raise FileError(
            f"{place}.prompt_tokens: must be at least the {shared} tokens of its prefix, got {stage.prompt_tokens}"
        )
    if stage.continues is None:
        return
    parents = {parent for parent, child in workflow.edges if child == stage.id}
    talkative = {other.id for other in workflow.stages if other.id in parents and other.kind == "llm"}
    if stage.continues not in talkative:
        known = ", ".join(sorted(talkative)) or "it has none"
        raise FileError(f"{place}.continues: must be a parent of kind llm ({known}) or null, got {stage.continues!r}")


def _misfit(model: str, fleet: Fleet, fleet_name: str) -> str:
    spec = fleet.models.get(model)
    if spec is None:
        return f"must be {_one_of('model', fleet.models)} of {fleet_name}, got {model!r}"
    largest = max(device.memory_bytes for device in fleet.devices.values())
    need = (
        f"{spec.weights_bytes / 1e9:g} GB on one device"
        if spec.group_size == 1
        else f"a group of {spec.group_size} devices with {spec.weights_bytes / spec.group_size / 1e9:g} GB on each"
    )
    return (
        f"must fit on a device or group of {fleet_name} whose gpu its speeds name, got {model!r}, "
        f"which needs {need} ({', '.join(sorted(spec.prefill_tps)) or 'no gpu'}); "
        f"the largest device has {largest / 1e9:g} GB"
    )


def _unique(place: str, ids: Iterable[str]) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(ids):
        if name in first:
            raise FileError(f"{place}[{index}].id: must be unique, got {name!r}, as in {place}[{first[name]}]")
        first[name] = index


def _one_of(what: str, names: Iterable[str]) -> str:
    known = sorted(names)
    listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    return f"a {what} ({listed})"
