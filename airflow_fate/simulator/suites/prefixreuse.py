"""The suite ``prefix-reuse``: prompts of which a set share lies in segments that other prompts begin with, too."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.suites.fleets import STORAGE, build_fleet
from airflow_fate.simulator.suites.load import arriving
from airflow_fate.simulator.suites.scenario import Scenario
from airflow_fate.simulator.suites.traces import azure
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

SUITE = "prefix-reuse"

_GPUS = {"a100": 4, "l40s": 8}
_MODELS = ("qwen-7b", "llama-8b", "qwen-14b", "mistral-24b")
_TEXTS = 32
"""Texts that each tenant's prompts begin with, some of them far more often than others."""


@dataclass(frozen=True)
class _Setting:
    """What makes one scenario differ from another.

    :param share: of a prompt's tokens that lies in shared segments.
    :param depth: segments in a chain: the tenant's, the application's, the text's.
    """

    name: str
    load: str
    share: float
    depth: int = 2
    tenants: int = 4
    workflows: int = 130

    @property
    def about(self) -> str:
        return f"{self.share:.0%} of each prompt shared, {self.depth} segments deep, {self.tenants} tenants"


_SETTINGS = (
    *(_Setting(f"high-reuse-{percent:02d}", "high", percent / 100) for percent in (0, 30, 60, 90)),
    *(_Setting(f"moderate-reuse-{percent:02d}", "moderate", percent / 100) for percent in (30, 60, 90)),
    _Setting("high-shallow", "high", 0.6, depth=1),
    _Setting("high-deep", "high", 0.75, depth=3),
    _Setting("high-one-tenant", "high", 0.6, tenants=1),
    _Setting("moderate-many-tenants", "moderate", 0.6, depth=3, tenants=16),
)


def _build(setting: _Setting, seed: int) -> tuple[Workload, Fleet]:
    rng = random.Random(f"{SUITE}/{setting.name}/{seed}")
    fleet = build_fleet(_GPUS, _MODELS, STORAGE["usual"])
    runs = [_run(rng, setting, number) for number in range(setting.workflows)]
    output_tokens = {ref: tokens for _, outputs in runs for ref, tokens in outputs.items()}
    workload = Workload(f"{SUITE}/{setting.name}/{seed}", tuple(workflow for workflow, _ in runs), output_tokens)
    return arriving(rng, workload, fleet, setting.load), fleet


def _run(rng: random.Random, setting: _Setting, number: int) -> tuple[Workflow, dict[StageRef, int]]:
    """A few questions about one text, then an answer from theirs: all stages share the text's segments."""
    name = f"run-{number:03d}"
    tenant = f"tenant-{rng.randrange(setting.tenants)}"
    # The text decides the application, and so the model: what begins alike is asked of the same model.
    text = min(rng.randrange(_TEXTS), rng.randrange(_TEXTS))
    model = _MODELS[random.Random(f"{tenant}/{text % 4}").randrange(len(_MODELS))]
    prompt_tokens = random.Random(f"{tenant}/{text}").choice((2000, 3000, 4000, 6000, 8000))
    prefix = _prefix(setting, tenant, text, prompt_tokens)
    questions = rng.randrange(2, 7)
    ids = [f"ask-{n}" for n in range(questions)] + ["answer"]
    edges = [(asked, "answer") for asked in ids[:-1]]
    if rng.random() < 0.5:  # one question leads to the next
        edges = list(pairwise(ids))
    stages: dict[str, Stage] = {}
    outputs: dict[StageRef, int] = {}
    for stage in ids:
        output = max(8, rng.choice(azure()).output_tokens)
        outputs[StageRef(name, stage)] = output
        stages[stage] = Stage(
            stage,
            StageKind.LLM,
            model,
            prompt_tokens=prompt_tokens + rng.randrange(50),
            expected_output_tokens=max(1, round(output * rng.lognormvariate(0, 0.3))),
            prefix=prefix,
            output_bytes=5 * output,
        )
    return Workflow(name, stages, tuple(edges), tenant=tenant), outputs


def _prefix(setting: _Setting, tenant: str, text: int, prompt_tokens: int) -> tuple[Segment, ...]:
    """Shared tokens in equal segments: of the tenant, of one of its four applications, of the text itself."""
    keys = (f"{tenant}/house", f"{tenant}/application-{text % 4}", f"{tenant}/text-{text}")[3 - setting.depth :]
    tokens = round(prompt_tokens * setting.share / setting.depth)
    # An outer segment is the same text, and as long, whatever follows it.
    outer = round(3000 * setting.share / setting.depth)
    sizes = [outer] * (setting.depth - 1) + [max(0, setting.depth * tokens - (setting.depth - 1) * outer)]
    return tuple(Segment(key, size) for key, size in zip(keys, sizes, strict=True) if size)


SCENARIOS = tuple(
    Scenario(SUITE, setting.name, setting.load, setting.about, partial(_build, setting)) for setting in _SETTINGS
)
