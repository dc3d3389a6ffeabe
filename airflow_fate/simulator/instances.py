"""What may a planner meet? Random fleets in the middle of their work, and workflows that share prompts."""

from __future__ import annotations

import random

from airflow_fate.cluster import (
    CachedSegment,
    ClusterState,
    Device,
    Fleet,
    ModelSpec,
    Node,
    PlaceState,
    Residency,
    Running,
)
from airflow_fate.planner import ReadyStage
from airflow_fate.workflow import Segment, Stage, StageRef, Workflow

_GB = 1e9


def ready_stages(*workflows: Workflow) -> list[ReadyStage]:
    """Stages whose parents have all ended."""
    return [
        ReadyStage(StageRef(workflow.id, stage), workflow.arrival_s)
        for workflow in workflows
        for stage in workflow.order
        if stage not in workflow.finished and workflow.finished.issuperset(workflow.parents(stage))
    ]


def random_instance(seed: int, devices: int, stages: int) -> tuple[list[ReadyStage], dict[str, Workflow], ClusterState]:
    """A mixed fleet in the middle of its work, and a frontier of workflows that share prompts."""
    rng = random.Random(seed)
    where = _random_fleet(rng, devices)
    documents = [Segment(f"document-{n}", rng.randrange(256, 2048)) for n in range(max(1, stages // 3))]
    workflows: dict[str, Workflow] = {}
    while sum(len(ready_stages(workflow)) for workflow in workflows.values()) < stages:
        workflow = _random_workflow(rng, f"run-{len(workflows):04d}", documents, sorted(where.models))
        workflows[workflow.id] = workflow
    frontier = ready_stages(*workflows.values())[:stages]
    chains = [
        (stage.model, segment)
        for workflow in workflows.values()
        for stage in workflow.stages.values()
        for segment in workflow.chain(stage.id)
    ]
    places = {device: _random_place(rng, where, device, chains) for device in where.devices}
    return frontier, workflows, ClusterState(where, places)


def _random_fleet(rng: random.Random, devices: int) -> Fleet:
    """Two devices a node, fast and slow in turn, and four models of which two or three fit on one."""
    max_seqs = rng.choice((1, 2, 4))
    prefill_tps, decode_tps = {"slow": 800.0, "fast": 2400.0}, {"slow": 40.0, "fast": 100.0}
    models = {
        name: ModelSpec(name, rng.choice((4, 8, 14)) * _GB, 1 * _GB, 4 * _GB, prefill_tps, decode_tps)
        for name in (f"model-{n}" for n in range(4))
    }
    return Fleet(
        {f"node-{n}": Node(f"node-{n}") for n in range((devices + 1) // 2)},
        {
            f"gpu-{n}": Device(f"gpu-{n}", f"node-{n // 2}", ("slow", "fast")[n % 2], 24 * _GB, 20_000, max_seqs)
            for n in range(devices)
        },
        models,
    )


def _random_workflow(rng: random.Random, name: str, documents: list[Segment], models: list[str]) -> Workflow:
    used = rng.choice(models)
    document = rng.choice(documents)
    stages = {
        f"stage-{n}": Stage(
            f"stage-{n}",
            model=used if rng.random() < 0.8 else rng.choice(models),
            prompts=rng.choice((1, 1, 1, 2)),
            prompt_tokens=document.tokens + rng.randrange(16, 512),
            expected_output_tokens=rng.randrange(16, 256),
            prefix=(document,) if rng.random() < 0.7 else (),
            output_bytes=rng.randrange(1_000_000),
            max_shards=rng.choice((1, 2)),
        )
        for n in range(6)
    }
    edges = tuple((f"stage-{n}", f"stage-{n + 3}") for n in range(3))
    return Workflow(name, stages, edges, arrival_s=-rng.random() * 60)


def _random_place(rng: random.Random, where: Fleet, device: str, chains: list[tuple[str, Segment]]) -> PlaceState:
    spec = where.devices[device]
    resident: dict[str, Residency] = {}
    room = spec.memory_bytes
    for name in rng.sample(sorted(where.models), 2):
        if where.models[name].weights_bytes <= room:
            resident[name] = Residency(name, last_used_s=-rng.random() * 60)
            room -= where.models[name].weights_bytes
    cached = {
        segment.key: CachedSegment(segment.tokens, -rng.random() * 60, name)
        for name, segment in rng.sample(chains, min(4, len(chains)))
        if name in resident
    }
    running = tuple(
        Running("other", f"{device}-{n}", rng.choice(sorted(resident)), 1, rng.random() * 2, 2 + rng.random() * 8)
        for n in range(rng.randrange(spec.max_seqs + 1))
    )
    return PlaceState(resident, cached, running, max((r.prefill_end_s for r in running), default=0.0))
