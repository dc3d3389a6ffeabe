"""Small fleets and workloads with everything in them that can be difficult, and random list policies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from airflow_fate.cluster import Device, DeviceGroup, Fleet, ModelSpec, Node
from airflow_fate.planner.dispatch.rule import DYNAMO, Rule, make_rule, numbers_of
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import Segment, Stage, StageKind, StageRef, Workflow

_GB = 10**9
_SEGMENT_TOKENS = {"house": 150, "desk": 90, "letter": 400, "annex": 33, "empty": 0}
_MOST_STAGES = 48
"""In all workflows together."""


@st.composite
def fleets(draw: st.DrawFn, grouped: bool = False) -> Fleet:
    """One to four devices, of which some may form groups; the model ``small`` fits on every one of them.

    :param grouped: some do, and there are models for them.
    """
    # Of most fleets no law beyond version 1 is known.
    batches = draw(st.sampled_from(((0,), (0,), (0, 8, 64, 512))))
    nodes = {
        f"node-{n}": Node(
            f"node-{n}", "", draw(st.sampled_from((1.0, 10.0))), draw(st.sampled_from((0, 12, 20, 40, 200))) * _GB
        )
        for n in range(draw(st.sampled_from((1, 2, 2))))
    }
    devices = {}
    for n in range(draw(st.integers(2 if grouped else 1, 4))):
        devices[f"gpu-{n}"] = Device(
            f"gpu-{n}",
            draw(st.sampled_from(sorted(nodes))),
            draw(st.sampled_from(("slow", "fast"))),
            draw(st.sampled_from((8, 13, 13, 20, 40))) * _GB,
            draw(st.sampled_from((0, 300, 1000, 5000, 50_000))),
            draw(st.sampled_from((1, 2, 4, 16))),
            batch_tokens=draw(st.sampled_from(batches)),
        )
    groups = {}
    if len(devices) > 1:
        for n in range(draw(st.integers(int(grouped), 2))):
            members = draw(st.permutations(sorted(devices)))[:2]
            groups[f"pair-{n}"] = DeviceGroup(f"pair-{n}", tuple(members))
    models = {"small": draw(_models("small", (3, 5, 8), (1,)))}
    for name in ("middle", "large", "wide", "other")[: draw(st.integers(int(grouped), 4))]:
        model = draw(_models(name, (5, 8, 12, 20, 26), (2,) if grouped else (1, 1, 2)))
        models[name] = model
    return Fleet(
        nodes,
        devices,
        models,
        groups,
        decode_slowdown=draw(st.sampled_from((0.0, 0.03, 0.5))),
        latency_s=draw(st.sampled_from((0.0, 0.001))),
    )


@st.composite
def _models(draw: st.DrawFn, name: str, weights_gb: tuple[int, ...], group_sizes: tuple[int, ...]) -> ModelSpec:
    prefill_tps, decode_tps = draw(st.sampled_from((997.0, 211.0))), draw(st.sampled_from((41.0, 13.0)))
    return ModelSpec(
        name,
        draw(st.sampled_from(weights_gb)) * _GB,
        1.7 * _GB,
        draw(st.sampled_from((1.7, 9.1))) * _GB,
        {"slow": prefill_tps, "fast": 2.3 * prefill_tps},
        {"slow": decode_tps, "fast": 2.9 * decode_tps},
        draw(st.sampled_from(group_sizes)),
        decode_slowdown=draw(st.sampled_from(({}, {}, {"slow": 0.9}, {"slow": 0.002, "fast": 0.1}))),
        context_slowdown=draw(st.sampled_from(({}, {}, {"fast": 0.7}))),
    )


@st.composite
def instances(draw: st.DrawFn, distinct: bool = False, grouped: bool = False) -> tuple[Workload, Fleet]:
    """A workload and a fleet that can serve it.

    :param distinct: no two stages have equally many tokens, so that hardly anything happens at the same time.
    """
    fleet = draw(fleets(grouped))
    models = [name for name in fleet.models if any(fleet.can_hold(place, name) for place in fleet.places)]
    workflows: list[Workflow] = []
    outputs: dict[StageRef, int] = {}
    for n in range(draw(st.integers(1, 8))):
        workflow = draw(_workflows(f"run-{n}", models, outputs, distinct))
        workflows.append(workflow)
    return Workload("small", tuple(workflows), outputs), fleet


@st.composite
def _workflows(draw: st.DrawFn, name: str, models: list[str], outputs: dict[StageRef, int], distinct: bool) -> Workflow:
    stages: dict[str, Stage] = {}
    edges: list[tuple[str, str]] = []
    for n in range(draw(st.integers(1, 6))):
        stage = f"stage-{n}"
        parents = draw(st.lists(st.sampled_from(sorted(stages)), max_size=3, unique=True)) if stages else []
        edges += [(parent, stage) for parent in parents]
        if draw(st.integers(0, 5)) == 0:
            duration_s = draw(st.sampled_from((0.0, 0.7, 5.3)))
            stages[stage] = Stage(stage, StageKind.TOOL, output_bytes=10**6, duration_s=duration_s)
            continue
        number = len(outputs) if distinct else 0
        outputs[StageRef(name, stage)] = draw(st.integers(0, 8)) * _MOST_STAGES + number
        stages[stage] = draw(_llm(name, stage, models, [stages[parent] for parent in parents], outputs, number))
    arrival_s = draw(st.sampled_from((0.0, 0.0, 0.5, 9.5, 100.0)))
    return Workflow(name, stages, tuple(edges), arrival_s, draw(st.sampled_from(("one", "other"))))


@st.composite
def _llm(
    draw: st.DrawFn,
    workflow: str,
    name: str,
    models: list[str],
    parents: list[Stage],
    outputs: dict[StageRef, int],
    number: int,
) -> Stage:
    talkers = [parent for parent in parents if parent.is_llm]
    continued = draw(st.sampled_from([None, *talkers])) if talkers else None
    same_model = draw(st.booleans())
    model = continued.model if continued is not None and same_model else draw(st.sampled_from(models))
    keys = draw(st.sampled_from(((), ("house",), ("house", "desk"), ("house", "letter", "annex"), ("empty", "desk"))))
    prefix = tuple(Segment(key, _SEGMENT_TOKENS[key]) for key in keys)
    tokens = sum(segment.tokens for segment in prefix)
    if continued is not None:
        tokens += continued.prompt_tokens + outputs[StageRef(workflow, continued.id)]
    return Stage(
        name,
        model=model,
        prompts=draw(st.sampled_from((1, 1, 2, 5))),
        prompt_tokens=max(1, tokens + draw(st.sampled_from((0, 1, 20, 300))) * _MOST_STAGES + number),
        expected_output_tokens=draw(st.integers(0, 8)) * _MOST_STAGES,
        prefix=prefix,
        continues=continued.id if continued is not None else None,
        output_bytes=draw(st.sampled_from((0, 1000, 10**8))),
        max_shards=draw(st.sampled_from((1, 2, 3))),
    )


_WEIGHTS = st.sampled_from((0.0, 0.0, 0.5, 1.0))
_WAYS: dict[str, st.SearchStrategy[Any]] = {
    "place": st.integers(0, DYNAMO),
    "waits": st.integers(0, 1),
    "reserve": st.integers(0, 1),
    "push": st.sampled_from((0, 0, 1)),
    "evict_by": st.integers(0, 2),
    "shards": st.sampled_from((0.0, 9.0)),
    "most_shards": st.sampled_from((2, 1 << 20)),
    "prefetch": st.sampled_from((0.0, 0.3, 9.0)),
    "sees_loads": st.integers(0, 1),
    "sees_prefixes": st.integers(0, 1),
    "sees_transfers": st.integers(0, 1),
}


def _rules(**ways: st.SearchStrategy[Any]) -> st.SearchStrategy[Rule]:
    numbers = {name: (_WAYS | ways).get(name, _WEIGHTS) for name in numbers_of(Rule())}
    return st.fixed_dictionaries(numbers).map(lambda fields: make_rule(**fields))


RULES = _rules()
"""Any list policy."""

PUSHING = _rules(push=st.just(1))
"""Any that binds at once."""

SEEDS = st.integers(0, 2**32)
