"""Small fleets and workflows, and a closed loop that plans, applies and goes on to the next end of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from airflow_fate.cluster import (
    ClusterState,
    Device,
    Fleet,
    ModelSpec,
    Node,
    PlaceState,
    Residency,
    Running,
)
from airflow_fate.physics.costs import CostModel
from airflow_fate.planner import Plan, PlanConfig, Policy, Problem
from airflow_fate.planner.heartbeat import BIND_AHEAD_S
from airflow_fate.simulator.instances import ready_stages
from airflow_fate.workflow import Segment, Stage, StageRef, Workflow
from tests.oracle.forecast import apply, demand_of, estimate

GB = 1e9


def model(name: str = "small", weights_gb: float = 8, group_size: int = 1) -> ModelSpec:
    speeds = {"slow": 800.0, "fast": 2400.0}, {"slow": 40.0, "fast": 100.0}
    return ModelSpec(name, weights_gb * GB, 1 * GB, 4 * GB, *speeds, group_size)


def fleet(devices: int, *models: ModelSpec, max_seqs: int = 1, memory_gb: float = 24, gpus: str = "slow") -> Fleet:
    nodes = {f"node-{i}": Node(f"node-{i}") for i in range((devices + 1) // 2)}
    kinds = gpus.split()
    return Fleet(
        nodes,
        {
            f"gpu-{i}": Device(f"gpu-{i}", f"node-{i // 2}", kinds[i % len(kinds)], memory_gb * GB, 20_000, max_seqs)
            for i in range(devices)
        },
        {spec.name: spec for spec in models or (model(),)},
    )


def apart() -> Fleet:
    """Two nodes, each with a device on which only one model has a speed: ``small`` on the slow one, else ``there``."""
    small = replace(model(), prefill_tps={"slow": 800.0}, decode_tps={"slow": 40.0})
    fast_only = replace(model("there"), prefill_tps={"fast": 2400.0}, decode_tps={"fast": 100.0})
    where = fleet(3, small, fast_only, max_seqs=4, gpus="slow slow fast")
    return replace(where, devices={name: device for name, device in where.devices.items() if name != "gpu-1"})


def warm(where: Fleet, name: str = "small") -> ClusterState:
    """Every device has the model ready and nothing else."""
    return ClusterState(where, {device: PlaceState(resident={name: Residency(name)}) for device in where.devices})


def busy(until_s: float, name: str = "small", sequences: int = 1) -> Running:
    return Running("other", "stage", name, sequences, until_s, until_s)


def by_id(*workflows: Workflow) -> dict[str, Workflow]:
    return {workflow.id: workflow for workflow in workflows}


def one_stage(name: str = "run", **fields: object) -> Workflow:
    stage = {"model": "small", "prompt_tokens": 1000, "expected_output_tokens": 40, **fields}
    return Workflow(name, {"only": Stage("only", **stage)})  # type: ignore[arg-type]


def shared_documents(runs: int, workers: int, document_tokens: int = 2000) -> list[Workflow]:
    """Runs whose workers all read the run's own document."""
    return [
        Workflow(
            f"run-{run}",
            {
                f"worker-{n}": Stage(
                    f"worker-{n}",
                    model="small",
                    prompt_tokens=document_tokens + 100,
                    expected_output_tokens=20,
                    prefix=(Segment(f"document-{run}", document_tokens),),
                )
                for n in range(workers)
            },
        )
        for run in range(runs)
    ]


def play(policy: Policy, workflows: Iterable[Workflow], state: ClusterState, config: PlanConfig) -> dict[str, float]:
    """Run all workflows to their end as estimated; returns when each ended. Raises when nothing goes on."""
    alive = by_id(*workflows)
    ends: dict[str, float] = {}
    started: set[StageRef] = set()
    now = 0.0
    while alive:
        frontier = [stage for stage in ready_stages(*alive.values()) if stage.ref not in started]
        plan = policy(Problem(frontier, alive, state, CostModel(), now), config)
        state = _carry_out(plan, alive, state, now)
        started |= {assignment.ref for assignment in plan.assignments}
        events = [
            t
            for place in state.places.values()
            for running in place.running
            for t in (running.prefill_end_s - BIND_AHEAD_S, running.prefill_end_s, running.finish_s)
            if t > now
        ]
        assert events, "held with nothing running"
        now = min(events)
        state, alive = _end(state, alive, now)
        for name in [name for name, workflow in alive.items() if len(workflow.finished) == len(workflow.stages)]:
            ends[name] = now
            del alive[name]
    return ends


def _carry_out(plan: Plan, workflows: Mapping[str, Workflow], state: ClusterState, now: float) -> ClusterState:
    for assignment in plan.assignments:
        demand = demand_of(workflows[assignment.ref.workflow], assignment.ref.stage)
        for share in assignment.shares:
            expected = estimate(demand, share.prompts, share.place, state, CostModel(), now)
            assert expected is not None
            evict = tuple(pair for pair in assignment.evict if pair[0] == share.place)
            state = apply(state, demand, share.prompts, share.place, replace(expected, evict=evict))
    return state


def _end(state: ClusterState, workflows: dict[str, Workflow], now: float) -> tuple[ClusterState, dict[str, Workflow]]:
    places = {}
    unfinished = {(r.workflow, r.stage) for place in state.places.values() for r in place.running if r.finish_s > now}
    for name, place in state.places.items():
        for r in place.running:
            if (r.workflow, r.stage) not in unfinished and r.workflow in workflows:
                workflow = workflows[r.workflow]
                workflows[r.workflow] = replace(workflow, finished=workflow.finished | {r.stage})
        places[name] = replace(place, running=tuple(r for r in place.running if r.finish_s > now))
    return replace(state, places=places), workflows
