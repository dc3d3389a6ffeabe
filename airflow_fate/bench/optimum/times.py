"""How long does everything take in a small instance? Whole ticks, each rounded down.

The instances are those of the suite ``small``: devices with one sequence slot and room for one model, stages of one
prompt. Who runs where, and in which order, is then all there is to decide. Each time of a real schedule, rounded down,
makes a schedule of ticks. So no real schedule reaches what no schedule of ticks can reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import floor

from airflow_fate.cluster import Device, Fleet
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Stage, StageRef, Workflow

TICKS_PER_S = 1000
MOST_STAGES = 20
MOST_DEVICES = 4


class NotSmallError(ValueError):
    """An instance that has more to it than the optimum is made for; says what."""


def ticks(seconds: float) -> int:
    return floor(seconds * TICKS_PER_S + 1e-9)


@dataclass(frozen=True)
class Task:
    """A stage.

    :param moves: parent -> ticks to bring its output from another node.
    :param prefill: ticks on each device, with nothing cached.
    :param spared: ticks of it that its prefix spares on each device, where that is cached.
    :param decode: ticks on each device.
    :param prefix: key of its prefix; empty where it has none.
    """

    ref: StageRef
    arrival: int
    model: str
    moves: dict[int, int]
    prefill: tuple[int, ...]
    spared: tuple[int, ...]
    decode: tuple[int, ...]
    prefix: str


@dataclass(frozen=True)
class Times:
    """An instance.

    :param nodes: the node of each device.
    :param loads: model -> ticks from disk, and from the memory of the node.
    :param begin: before it nothing is known, so nothing is done.
    """

    tasks: tuple[Task, ...]
    devices: tuple[str, ...]
    nodes: tuple[str, ...]
    loads: dict[str, tuple[int, int]]
    begin: int


def times_of(workload: Workload, fleet: Fleet) -> Times:
    """The instance, with what only the simulation knows: true outputs, and all arrivals.

    :raises NotSmallError: when it is none of that kind.
    """
    stages = [(workflow, stage) for workflow in workload.workflows for stage in workflow.stages.values()]
    _check_fleet(fleet)
    _check("stages", len(stages) <= MOST_STAGES, f"at most {MOST_STAGES} stages, got {len(stages)}")
    for _, stage in stages:
        _check_stage(stage, fleet)
    at = {StageRef(workflow.id, stage.id): index for index, (workflow, stage) in enumerate(stages)}
    models = [fleet.models[name] for name in sorted({stage.model for _, stage in stages})]
    loads = {
        model.name: (
            ticks(model.weights_bytes / model.disk_bytes_per_s),
            ticks(model.weights_bytes / max(model.disk_bytes_per_s, model.host_bytes_per_s)),
        )
        for model in models
    }
    return Times(
        tuple(_task(workflow, stage, workload, fleet, at) for workflow, stage in stages),
        tuple(fleet.devices),
        tuple(device.node for device in fleet.devices.values()),
        loads,
        min(ticks(workflow.arrival_s) for workflow in workload.workflows),
    )


def _task(workflow: Workflow, stage: Stage, workload: Workload, fleet: Fleet, at: dict[StageRef, int]) -> Task:
    model, ref = fleet.models[stage.model], StageRef(workflow.id, stage.id)
    devices = fleet.devices.values()
    shared = min(sum(segment.tokens for segment in stage.prefix), stage.prompt_tokens - 1)
    prefill = [ticks(stage.prompt_tokens / model.prefill_tps[device.gpu]) for device in devices]
    rest = [ticks((stage.prompt_tokens - shared) / model.prefill_tps[device.gpu]) for device in devices]
    output_tokens = workload.output_tokens[ref]
    chain = workflow.chain(stage.id)
    return Task(
        ref,
        ticks(workflow.arrival_s),
        stage.model,
        {
            at[StageRef(workflow.id, parent)]: _move_ticks(workflow.stages[parent], fleet)
            for parent in workflow.parents(stage.id)
        },
        tuple(prefill),
        tuple(whole - some for whole, some in zip(prefill, rest, strict=True)),
        tuple(ticks(output_tokens / model.decode_tps[device.gpu]) for device in devices),
        chain[0].key if chain else "",
    )


def _move_ticks(parent: Stage, fleet: Fleet) -> int:
    fastest_gbps = max(node.gbps for node in fleet.nodes.values())
    return ticks(fleet.latency_s + parent.output_bytes * 8 / (fastest_gbps * 1e9))


def _check_fleet(fleet: Fleet) -> None:
    _check("devices", len(fleet.devices) <= MOST_DEVICES, f"at most {MOST_DEVICES} devices, got {len(fleet.devices)}")
    _check("groups", not fleet.groups, "no groups")
    for device in fleet.devices.values():
        _check(f"device {device.id}", device.max_seqs == 1, f"max_seqs 1, got {device.max_seqs}")
        _check(f"device {device.id}", not _holds_two(fleet, device), "room for one model, no two of them")


def _holds_two(fleet: Fleet, device: Device) -> bool:
    weights = [model.weights_bytes for model in fleet.models.values()]
    return any(first + other <= device.memory_bytes * (1 + 1e-9) for first, other in combinations(weights, 2))


def _check_stage(stage: Stage, fleet: Fleet) -> None:
    what = f"stage {stage.id}"
    _check(what, stage.is_llm, "kind llm")
    _check(what, stage.prompts == 1, f"one prompt, got {stage.prompts}")
    _check(what, stage.continues is None and len(stage.prefix) <= 1, "one prefix segment or none, and no continues")
    _check(what, all(fleet.can_hold(device, stage.model) for device in fleet.devices), "a model that fits everywhere")


def _check(what: str, holds: bool, wanted: str) -> None:
    if not holds:
        raise NotSmallError(f"{what}: the optimum of the whole is for instances with {wanted}")
