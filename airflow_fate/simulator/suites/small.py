"""The suite ``small``: instances of at most 20 stages on four devices, small enough for the optimum of the whole."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

from airflow_fate.cluster import Device, Fleet, ModelSpec, Node
from airflow_fate.simulator.suites.scenario import Scenario
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

SUITE = "small"
MOST_STAGES = 20

_GB = 1e9


@dataclass(frozen=True)
class _Setting:
    """What makes one scenario differ from another.

    :param fast: how much faster half of the devices are.
    :param share: of a workflow's prompts that begins with the workflow's text.
    """

    name: str
    about: str
    models: int
    fast: float = 1.0
    share: float = 0.0


_SETTINGS = (
    _Setting("small-uniform", "Two models, four equal devices", 2),
    _Setting("small-mixed", "Three models, two devices 2.5 times as fast as the others", 3, fast=2.5),
    _Setting("small-prefix", "Two models, prompts that share two thirds", 2, share=0.67),
)


def _build(setting: _Setting, seed: int) -> tuple[Workload, Fleet]:
    rng = random.Random(f"{SUITE}/{setting.name}/{seed}")
    models = [f"model-{number}" for number in range(setting.models)]
    prefill_tps, decode_tps = {"slow": 1500.0, "fast": 1500.0 * setting.fast}, {"slow": 30.0, "fast": 30 * setting.fast}
    fleet = Fleet(
        {f"node-{n}": Node(f"node-{n}", gbps=10.0, host_bytes=40 * _GB) for n in range(2)},
        {
            # One sequence each, and room for one model: who runs where, and in which order, is all there is to decide.
            f"gpu-{n}": Device(f"gpu-{n}", f"node-{n // 2}", ("slow", "fast")[n % 2], 20 * _GB, 40_000, 1)
            for n in range(4)
        },
        {
            name: ModelSpec(name, rng.choice((12, 15, 18)) * _GB, 1.5 * _GB, 6 * _GB, prefill_tps, decode_tps)
            for name in models
        },
    )
    workflows: list[Workflow] = []
    outputs: dict[StageRef, int] = {}
    while (left := MOST_STAGES - len(outputs)) >= 3:
        workflow = _run(rng, setting, f"run-{len(workflows)}", min(left, rng.randrange(3, 7)), models)
        workflows.append(workflow)
        for stage in workflow.stages.values():
            outputs[StageRef(workflow.id, stage.id)] = stage.expected_output_tokens
    return Workload(f"{SUITE}/{setting.name}/{seed}", tuple(workflows), outputs), fleet


def _run(rng: random.Random, setting: _Setting, name: str, count: int, models: list[str]) -> Workflow:
    """A random graph whose stages are true to their estimates: an optimum in hindsight could then be planned."""
    usual = rng.choice(models)
    tokens = rng.randrange(2000, 6000)
    shared = round(tokens * setting.share)
    prefix = (Segment(f"{name}/text", shared),) if shared else ()
    ids = [f"stage-{number}" for number in range(count)]
    stages = {
        stage: Stage(
            stage,
            StageKind.LLM,
            usual if rng.random() < 0.7 else rng.choice(models),
            prompt_tokens=tokens + rng.randrange(500),
            expected_output_tokens=rng.randrange(60, 400),
            prefix=prefix,
            output_bytes=rng.randrange(1_000_000, 200_000_000),
        )
        for stage in ids
    }
    edges = {(ids[rng.randrange(max(0, n - 3), n)], ids[n]) for n in range(1, count) if n > 1 or rng.random() < 0.7}
    return Workflow(name, stages, tuple(sorted(edges)), arrival_s=round(rng.uniform(0, 5), 3), tenant=name)


SCENARIOS = tuple(
    Scenario(SUITE, setting.name, "burst", setting.about, partial(_build, setting)) for setting in _SETTINGS
)
