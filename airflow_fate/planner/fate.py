"""The one entry point: a plan for the frontier, by a rule, over the same kernel that the simulator runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from airflow_fate.physics.kernel.snapshot import Snapshot, snapshot
from airflow_fate.physics.kernel.world import LOG, Records, World, records
from airflow_fate.planner.answer import answer
from airflow_fate.planner.cpsat import Chosen, apply_wave
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.lists.decide import decide
from airflow_fate.planner.lists.order import fill_keys, sort_frontier
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import View, make_view
from airflow_fate.planner.plan import Impossible, Placed, Plan, PlanConfig, Problem
from airflow_fate.planner.reasons import why_impossible


def plan(problem: Problem, config: PlanConfig) -> Plan:
    """Bind, hold or refuse every stage of the frontier."""
    fleet, workflows = problem.state.fleet, problem.workflows
    asked = [(ready, workflows[ready.ref.workflow].stages[ready.ref.stage].model) for ready in problem.frontier]
    refusals = {model: why_impossible(fleet, model) for model in sorted({model for _, model in asked})}
    impossible = [Impossible(ready.ref, reason) for ready, model in asked if (reason := refusals[model])]
    servable = [ready for ready, model in asked if refusals[model] is None]
    impossible.sort(key=lambda one: one.ref)
    if not servable:
        return Plan(impossible=tuple(impossible), solver=config.solver)
    taken = snapshot(servable, workflows.values(), problem.state, problem.costs, problem.now)
    rule = config.rule or GREEDY_IN_HEARTBEAT
    world = _with_log(taken.world)
    view = make_view(world, explain=True)
    fill_keys(world, view, rule)
    sort_frontier(world, view, len(servable))
    queue = view.order[: len(servable)].tolist()
    begun = _begin(config.wave, taken, world, view, rule)
    decide(world, view, rule)
    rows = np.concatenate([begun, view.booked[: view.marks[0].booked]])
    return answer(fleet, taken, world, view, rows, rule, queue, problem.now, tuple(impossible), config.solver)


def _begin(wave: Sequence[Placed], taken: Snapshot, world: World, view: View, rule: Rule) -> Records:
    """Bind those of the wave's stages that can begin; a row for each of their shares."""
    if not wave:
        return view.booked[:0]
    stages = {ref: stage for stage, ref in taken.frontier.items()}
    places = {name: number for number, name in enumerate(taken.places)}
    broken = {one.ref for one in wave if one.place not in places}
    shares = [
        (stages[one.ref], places[one.place], one.prompts) for one in wave if one.ref in stages and one.ref not in broken
    ]
    if not shares:
        return view.booked[:0]
    apply_wave(world, view, rule, Chosen(tuple(shares), "", 0.0, 0.0))
    rows = view.booked[: view.marks[0].booked]
    view.marks[0].booked = 0
    return rows[rows["held"] == 0].copy()


def _with_log(world: World) -> World:
    """A log tells which evictions make room for which stage."""
    rows = 8 * len(world.shards) + 4 * len(world.parent) + 2 * world.resident.size
    return replace(world, log=records(int(rows), LOG))
