"""The one entry point: a plan for the frontier, by a rule, over the same physics that the simulator runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from airflow_fate.physics.restart.snapshot import Snapshot, snapshot
from airflow_fate.physics.world.arrays import LogRow, World
from airflow_fate.physics.world.tables import Table, zeros
from airflow_fate.planner.answer import answer
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.joint import dispatch_jointly
from airflow_fate.planner.dispatch.order import sort_frontier
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.profile import DecisionRow, Profile, make_profile
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.plan import Impossible, Placed, Plan, PlanConfig, Problem
from airflow_fate.planner.reasons import why_impossible


def plan(problem: Problem, config: PlanConfig) -> Plan:
    """Bind, hold or refuse every stage of the frontier."""
    fleet, workflows = problem.state.fleet, problem.workflows
    asked = [(ready, workflows[ready.ref.workflow].stages[ready.ref.stage].model) for ready in problem.frontier]
    refusals = {model: why_impossible(fleet, model) for model in sorted({model for _, model in asked})}
    impossible = [Impossible(ready.ref, reason) for ready, model in asked if (reason := refusals[model])]
    servable = [ready for ready, model in asked if refusals[model] is None]
    impossible.sort(key=lambda refused: refused.ref)
    if not servable:
        return Plan(impossible=tuple(impossible), solver=config.solver)
    start = snapshot(servable, workflows.values(), problem.state, problem.costs, problem.now)
    rule = config.rule or GREEDY_IN_HEARTBEAT
    world = _with_log(start.world)
    profile = make_profile(world, explain=True)
    queue = profile.order[: sort_frontier(world, profile, rule.order)].tolist()
    begun = _begin(config.joint, start, world, profile, rule)
    dispatch(world, profile, rule)
    rows = cast("Table[DecisionRow]", np.concatenate([begun, profile.trace[: profile.counts[0].traced]]))
    return answer(fleet, start, world, profile, rows, rule, queue, problem.now, tuple(impossible), config.solver)


def _begin(joint: Sequence[Placed], start: Snapshot, world: World, profile: Profile, rule: Rule) -> Table[DecisionRow]:
    """Bind those of the joint assignment's stages that can begin; a row for each of their shares."""
    if not joint:
        return profile.trace[:0]
    stages = {ref: stage for stage, ref in start.frontier.items()}
    places = {name: number for number, name in enumerate(start.places)}
    broken = {share.ref for share in joint if share.place not in places}
    shares = tuple(
        (stages[share.ref], places[share.place], share.prompts)
        for share in joint
        if share.ref in stages and share.ref not in broken
    )
    if not shares:
        return profile.trace[:0]
    dispatch_jointly(world, profile, rule, shares)
    rows = profile.trace[: profile.counts[0].traced]
    profile.counts[0].traced = 0
    bound: Table[DecisionRow] = rows[rows["held"] == 0].copy()
    return bound


def _with_log(world: World) -> World:
    """A log tells which evictions make room for which stage."""
    rows = 8 * len(world.shards) + 4 * len(world.parent_indices) + 2 * world.resident.size
    return replace(world, log=zeros(LogRow, int(rows)))
