"""What will be asked for soon, and what would an eviction cost then?

The harm of an eviction has two parts. The time to load the model again, times how much of its replicas the coming work
needs: the work of the ready stages and of the stages just behind them, each level counting less than the one before.
And the time to compute again the prefixes that go with it, where a stage that is still to come begins with them and no
other place has them: each once, since whoever computes it again leaves it for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_fate.cluster import ClusterState
from airflow_fate.physics import CostModel
from airflow_fate.planner.pace import Pace
from airflow_fate.workflow import StageRef, Workflow


@dataclass(frozen=True, slots=True)
class Outreach:
    """How far ahead coming work counts.

    :param levels: generations behind the ready stages.
    :param discount: what each generation counts of the one before.
    """

    levels: int
    discount: float


UNDER_LOAD = Outreach(levels=2, discount=0.6)
LIGHT_LOAD = Outreach(levels=4, discount=0.8)


def coming_work_s(
    ready: Iterable[StageRef], workflows: Mapping[str, Workflow], pace: Pace, outreach: Outreach
) -> dict[str, float]:
    """Model -> discounted seconds of work that the frontier and its descendants ask of it."""
    by_workflow: dict[str, set[str]] = {}
    for ref in ready:
        by_workflow.setdefault(ref.workflow, set()).add(ref.stage)
    work_s: dict[str, float] = {}
    for workflow_id, generation in by_workflow.items():
        workflow, seen, share = workflows[workflow_id], set(generation), 1.0
        children = workflow.graph.adj
        for _ in range(outreach.levels + 1):
            for stage_id in sorted(generation):
                stage = workflow.stages[stage_id]
                if stage.is_llm:
                    work_s[stage.model] = work_s.get(stage.model, 0.0) + share * pace.stage_s(stage)
            generation = {child for stage_id in generation for child in children[stage_id]} - seen
            seen |= generation
            share *= outreach.discount
    return work_s


@dataclass(frozen=True)
class EvictionHarm:
    """(place, model) -> seconds that the model's eviction from the place costs what comes next.

    :param share_needed: model -> how much of one replica the coming work would miss, 0 to 1.
    :param reload_weight: what a second of loading it again counts.
    :param lost_tokens: (place, model) -> prompt tokens that would have to be computed again.
    """

    state: ClusterState
    costs: CostModel
    share_needed: Mapping[str, float]
    reload_weight: float
    lost_tokens: Mapping[tuple[str, str], int]

    def __call__(self, place: str, model: str) -> float:
        spec = self.state.fleet.models.get(model)
        leader = self.state.fleet.members(place)[0]
        if spec is None or leader.gpu not in spec.prefill_tps:
            return 0.0
        in_host = model in self.state.host_models.get(leader.node, frozenset())
        reload_s = self.share_needed.get(model, 0.0) * self.costs.read_s(spec, leader.gpu, in_host)
        recompute_s = self.lost_tokens.get((place, model), 0) / self.costs.prefill_tps(spec, leader.gpu)
        return self.reload_weight * reload_s + recompute_s


def prefixes_at_stake(
    state: ClusterState, places: Iterable[str], workflows: Iterable[Workflow]
) -> dict[tuple[str, str], int]:
    """(place, model) -> tokens of prefixes that only this place has and that a stage still to come begins with."""
    links: dict[str, tuple[str, int]] = {}
    for workflow in workflows:
        for stage in workflow.stages.values():
            if stage.is_llm and stage.id not in workflow.finished:
                for segment in workflow.chain(stage.id):
                    links[segment.key] = (stage.model, segment.tokens)
    holders: dict[str, list[str]] = {}
    for place in places:
        for key in state.place(place).cached:
            if key in links:
                holders.setdefault(key, []).append(place)
    lost: dict[tuple[str, str], int] = {}
    for key, where in holders.items():
        model, tokens = links[key]
        if len(where) == 1:
            lost[where[0], model] = lost.get((where[0], model), 0) + tokens
    return lost


def eviction_harm(
    state: ClusterState,
    costs: CostModel,
    places: Sequence[str],
    work_s: Mapping[str, float],
    workflows: Iterable[Workflow],
    reload_weight: float,
) -> EvictionHarm:
    """How much of one replica the coming work would miss: ``need − (replicas − 1)``, between 0 and 1, where a model's
    need is its share of the coming work times the number of places."""
    replicas: dict[str, int] = {}
    count = 0
    for place in places:
        count += 1
        for model in state.place(place).resident:
            replicas[model] = replicas.get(model, 0) + 1
    total_s = sum(work_s.values())
    missed = {
        model: min(1.0, max(0.0, count * seconds / total_s - (replicas.get(model, 0) - 1)))
        for model, seconds in work_s.items()
        if total_s > 0
    }
    return EvictionHarm(state, costs, missed, reload_weight, prefixes_at_stake(state, places, workflows))
