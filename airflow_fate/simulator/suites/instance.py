"""How does a drawn workflow become a run of it? Its prompts, answers and batches get their sizes from the traces."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_fate.simulator.suites.dags import Node, Template
from airflow_fate.simulator.suites.traces import Request, azure
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

MOST_PROMPT_TOKENS = 16_000
_MOST_OUTPUT_TOKENS = 2_000
_BYTES_PER_TOKEN = 5

_TOOL_S = {"code": 0.2, "knowledge-retrieval": 0.8, "UnifiedWebSearch": 3.0, "URLComponent": 2.0, "tool": 2.5}
"""Median seconds of a tool; 1 for the others."""
_FOUND_TOKENS = {"knowledge-retrieval": 2000, "UnifiedWebSearch": 3000, "URLComponent": 3000, "tool": 800}
"""What a tool finds for the prompts after it; 100 for the others."""


@dataclass(frozen=True)
class Input:
    """What a run is about.

    :param text: the segments of the text that it works on; the outer ones begin other texts, too.
    :param request: the request of the trace that the text is from.
    """

    text: tuple[Segment, ...]
    request: Request


@dataclass(frozen=True)
class RunSettings:
    """How the runs of a scenario are made.

    :param models: author's model -> model of the fleet; the empty name is what users choose.
    :param sigma: of the logarithm of expected over true output tokens.
    :param output_mb: median megabytes that a stage leaves beside its text (images, tables, embeddings); 0 for none.
    """

    models: Mapping[str, str]
    sigma: float = 0.3
    output_mb: float = 2.0


def make_run(
    rng: random.Random, name: str, tenant: str, template: Template, about: Input, settings: RunSettings
) -> tuple[Workflow, dict[StageRef, int]]:
    """One run of a workflow, and how long its answers really are."""
    habits = random.Random(f"{tenant} runs {template.id}")
    text_first = habits.random() < 0.5
    stages: dict[str, Stage] = {}
    outputs: dict[str, int] = {}
    result_tokens: dict[str, int] = {}
    for node in template.nodes:
        parents = template.parents(node.id)
        if not node.is_llm:
            stages[node.id] = _tool(rng, node)
            result_tokens[node.id] = round(_FOUND_TOKENS.get(node.tool, 100) * rng.lognormvariate(0, 0.5))
            continue
        handed = sum(
            result_tokens[parent] if parent in result_tokens else outputs[parent] * stages[parent].prompts
            for parent in parents
        )
        # The first stages read the text; of the later ones, those whose author had them read it again.
        reads = not any(parent in outputs for parent in parents) or habits.random() < 0.4
        stages[node.id], outputs[node.id] = _llm(
            rng, node, template, settings, about if reads else None, tenant, text_first, handed, stages, outputs
        )
    workflow = Workflow(name, stages, template.edges, tenant=tenant)
    return workflow, {StageRef(name, stage): tokens for stage, tokens in outputs.items()}


def _llm(
    rng: random.Random,
    node: Node,
    template: Template,
    settings: RunSettings,
    about: Input | None,
    tenant: str,
    text_first: bool,
    handed: int,
    stages: Mapping[str, Stage],
    outputs: Mapping[str, int],
) -> tuple[Stage, int]:
    model = settings.models[node.model]
    sample = rng.choice(azure())
    prompts, max_shards = _batch(rng, node, template)
    output = min(_MOST_OUTPUT_TOKENS, (about.request if about and rng.random() < 0.5 else sample).output_tokens)
    if model.startswith("r1"):
        output = min(_MOST_OUTPUT_TOKENS, 3 * output)  # it thinks before it answers
    prefix: tuple[Segment, ...] = ()
    fresh = node.template_tokens + handed + rng.randrange(20, 200)
    conversation = 0
    continued = template.chat_parent(node)
    if continued is not None:
        conversation = stages[continued].prompt_tokens + outputs[continued]
        fresh -= handed  # what it was handed is the end of the conversation
    if continued is None or conversation + fresh + node.system_tokens > MOST_PROMPT_TOKENS:
        continued, conversation = None, 0
        prefix = _prefix(node, tenant, about, text_first)
    else:
        fresh += node.system_tokens
    if about is None and continued is None and handed == 0:
        fresh += sample.prompt_tokens
    shared = sum(segment.tokens for segment in prefix)
    fresh = max(1, min(fresh, MOST_PROMPT_TOKENS - shared - conversation))
    stage = Stage(
        node.id,
        StageKind.LLM,
        model,
        prompts,
        conversation + shared + fresh,
        max(1, round(output * rng.lognormvariate(0, settings.sigma))),
        prefix,
        continued,
        _output_bytes(rng, settings.output_mb, prompts * output),
        max_shards,
    )
    return stage, output


def _prefix(node: Node, tenant: str, about: Input | None, text_first: bool) -> tuple[Segment, ...]:
    """Instructions and text, in the order in which the author puts them. Tenants never share."""
    system = (Segment(f"{tenant}/{node.system}", node.system_tokens),) if node.system_tokens else ()
    text = tuple(Segment(f"{tenant}/{part.key}", part.tokens) for part in about.text) if about else ()
    return text + system if text_first else system + text


def _batch(rng: random.Random, node: Node, template: Template) -> tuple[int, int]:
    """Prompts, and devices over which they may be split: many where the author maps, some in a fan of equal nodes."""
    if node.mapped:
        return rng.randrange(4, 17), 4
    if len(template.fan(node)) >= 3:
        return rng.choice((1, 2, 4)), 2
    return 1, 1


def _tool(rng: random.Random, node: Node) -> Stage:
    rounds = math.sqrt(rng.randrange(4, 17)) if node.mapped else 1.0
    duration_s = round(_TOOL_S.get(node.tool, 1.0) * rounds * rng.lognormvariate(0, 0.6), 3)
    return Stage(node.id, StageKind.TOOL, output_bytes=rng.randrange(1_000, 1_000_000), duration_s=duration_s)


def _output_bytes(rng: random.Random, median_mb: float, tokens: int) -> int:
    beside = median_mb * 1e6 * rng.lognormvariate(0, 1.2) if rng.random() < 0.5 else 0.0
    return _BYTES_PER_TOKEN * tokens + round(beside)
