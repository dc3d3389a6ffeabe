"""The suite ``real-dag``: public LLM workflows with the lengths and arrivals of real traces."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.suites.dags import Template, templates
from airflow_fate.simulator.suites.fleets import MODELS, STORAGE, build_fleet
from airflow_fate.simulator.suites.instance import Input, RunSettings, make_run
from airflow_fate.simulator.suites.load import arriving
from airflow_fate.simulator.suites.scenario import Scenario
from airflow_fate.simulator.suites.traces import sessions
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef, Workflow

SUITE = "real-dag"

_STAND_IN = {
    "gemini-2.0-flash-lite": "phi-4b",
    "gpt-4o-mini": "llama-8b",
    "gemini-2.0-flash-exp": "qwen-7b",
    "gemini-2.0-flash": "qwen-7b",
    "qwen-vl-plus": "vl-7b",
    "deepseek-r1-distill-llama-8b": "r1-8b",
    "o1-mini-2024-09-12": "r1-8b",
    "Doubao-Pro-32k": "qwen-14b",
    "gemini-2.5-flash-preview-05-20": "qwen-14b",
    "deepseek-chat": "mistral-24b",
    "mistral-medium-latest": "mistral-24b",
    "gpt-4o": "qwen-32b",
    "gpt-4.1": "qwen-32b",
    "qwen-max": "qwen-32b",
    "claude-sonnet-4-0": "llama-70b",
}
"""Author's model -> the open model that takes its place."""

_MIXED = {"h100": 4, "a100": 6, "l40s": 8, "l4": 6}
_UNIFORM = {"l40s": 16}
_USUAL_MODELS = ("qwen-7b", "llama-8b", "r1-8b", "qwen-14b", "mistral-24b", "qwen-32b")
_FEW_MODELS = ("llama-8b", "r1-8b", "qwen-14b", "mistral-24b")
_MANY_MODELS = (*_USUAL_MODELS, "phi-4b", "vl-7b")
_TEXT_TOKENS = 9_000


@dataclass(frozen=True)
class _Setting:
    """What makes one scenario differ from another."""

    name: str
    load: str
    about: str
    gpus: Mapping[str, int] = field(default_factory=lambda: _MIXED)
    models: tuple[str, ...] = _USUAL_MODELS
    storage: str = "usual"
    workflows: int = 120
    tenants: int = 4
    pairs: int = 0
    gbps: float = 25.0
    sigma: float = 0.3
    output_mb: float = 2.0


_SETTINGS = (
    _Setting("burst-uniform", "burst", "All at once on 16 equal GPUs", _UNIFORM),
    _Setting("burst-mixed", "burst", "All at once on four kinds of GPU", workflows=150),
    _Setting(
        "burst-mixed-dear", "burst", "All at once; each load takes 25 to 55 s", storage="dear", models=_FEW_MODELS
    ),
    _Setting("high-uniform", "high", "More than 16 equal GPUs can do", _UNIFORM),
    _Setting("high-mixed", "high", "More than four kinds of GPU can do", workflows=180),
    _Setting("high-mixed-cheap", "high", "Weights come from host memory", storage="cheap", models=_MANY_MODELS),
    _Setting("high-mixed-dear", "high", "Each load takes 25 to 55 s", storage="dear", workflows=150),
    _Setting("high-far-data", "high", "Large outputs over a slow network", gbps=4.0, output_mb=400.0),
    _Setting(
        "high-groups",
        "high",
        "One model spans two devices",
        {"h100": 8, "a100": 8, "l4": 4},
        (*_USUAL_MODELS, "llama-70b"),
        pairs=6,
    ),
    _Setting("high-bad-estimates", "high", "Half of the expected outputs are more than doubled or halved", sigma=1.0),
    _Setting("moderate-uniform", "moderate", "Half of what 8 equal GPUs can do", {"l40s": 8}, workflows=80),
    _Setting("moderate-mixed", "moderate", "Half of what four kinds of GPU can do", workflows=150, models=_MANY_MODELS),
    _Setting("moderate-mixed-dear", "moderate", "Each load takes 25 to 55 s", storage="dear", models=_FEW_MODELS),
    _Setting("light-mixed", "light", "A quarter of what four kinds of GPU can do", workflows=80),
)


def _build(setting: _Setting, seed: int) -> tuple[Workload, Fleet]:
    rng = random.Random(f"{SUITE}/{setting.name}/{seed}")
    fleet = build_fleet(setting.gpus, setting.models, STORAGE[setting.storage], setting.gbps, setting.pairs)
    workflows, output_tokens = _runs(rng, setting)
    workload = Workload(f"{SUITE}/{setting.name}/{seed}", tuple(workflows), output_tokens)
    return arriving(rng, workload, fleet, setting.load), fleet


def _runs(rng: random.Random, setting: _Setting) -> tuple[list[Workflow], dict[StageRef, int]]:
    tenants = [f"tenant-{number}" for number in range(setting.tenants)]
    # Some tenants are larger than others; each has workflows of its own, and a model for what users ask.
    shares = [1 / (number + 1) for number in range(setting.tenants)]
    catalogue = {tenant: rng.sample(templates(), 8) for tenant in tenants}
    chosen = {tenant: rng.choice(setting.models[:6]) for tenant in tenants}
    inputs = [
        (tenant, Input(text, request))
        for session in sessions(rng, setting.workflows, _TEXT_TOKENS)
        for tenant in rng.choices(tenants, shares)  # one for the whole session
        for request, text in session
    ]
    rng.shuffle(inputs)
    workflows: list[Workflow] = []
    output_tokens: dict[StageRef, int] = {}
    for number, (tenant, about) in enumerate(inputs):
        template: Template = rng.choice(catalogue[tenant])
        settings = RunSettings(_served(setting.models, chosen[tenant]), setting.sigma, setting.output_mb)
        workflow, true_tokens = make_run(rng, f"run-{number:03d}", tenant, template, about, settings)
        workflows.append(workflow)
        output_tokens |= true_tokens
    return workflows, output_tokens


def _served(models: tuple[str, ...], chosen: str) -> dict[str, str]:
    """Author's model -> the fleet's, or where it has none like it, the one next in size."""

    def nearest(wanted: str) -> str:
        size = MODELS[wanted].parameters_b
        return min(models, key=lambda name: (name != wanted, abs(MODELS[name].parameters_b - size), name))

    return {author: nearest(model) for author, model in _STAND_IN.items()} | {"": chosen}


SCENARIOS = tuple(
    Scenario(SUITE, setting.name, setting.load, setting.about, partial(_build, setting)) for setting in _SETTINGS
)
