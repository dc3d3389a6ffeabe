"""The executor's plan is the simulator's decision: moments of a simulation, written as values, are planned alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from airflow_fate.cluster import CachedSegment, ClusterState, Fleet, PlaceState, Residency, Running
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.dynamics.event_loop import advance
from airflow_fate.physics.world.arrays import ABSENT, DONE, LOADED, READY, World, copy
from airflow_fate.physics.world.encode import Encoded, encode
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.rule import Rule, changed
from airflow_fate.planner.fate import plan
from airflow_fate.planner.forecast.profile import Profile, make_profile
from airflow_fate.planner.forecast.projection import project
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.plan import Plan, PlanConfig, Problem, ReadyStage
from airflow_fate.planner.search.portfolio import GREEDY, PORTFOLIO
from airflow_fate.simulator.suites import find_scenarios
from airflow_fate.workflow import StageRef, Workflow

Bound = set[tuple[StageRef, str, int]]
RULES = {
    "heartbeat": GREEDY_IN_HEARTBEAT,
    **{
        name: changed(rule, overlap=0.0)
        for name, rule in (
            ("greedy", GREEDY["balanced"]),
            ("shards", PORTFOLIO["balanced"][3]),
            ("long", PORTFOLIO["balanced"][5]),
        )
    },
}
"""As in the executor: nothing is bound before its slots are free."""
_OVERDUE = 0.15


@pytest.mark.parametrize("scenario", ["small-mixed", "small-uniform", "small-prefix"])
@pytest.mark.parametrize("name", RULES)
def test_a_plan_binds_what_the_simulator_binds(scenario: str, name: str) -> None:
    compared = bound = 0
    rng = np.random.default_rng(7)
    for seed in range(4):
        workload, fleet = find_scenarios("small", scenario)[0].build(seed)
        encoded = encode(workload.workflows, fleet, log=False)
        world, profile = encoded.world, make_profile(encoded.world)
        while advance(world):
            if world.tally[0].ready and _can_be_written(world) and rng.random() < 0.7:
                decided = _decided(encoded, RULES[name])
                planned = _planned(encoded, workload.workflows, fleet, profile, RULES[name])
                assert {(a.ref, s.place, s.prompts) for a in planned.assignments for s in a.shares} == decided
                compared += 1
                bound += len(decided)
            dispatch(world, profile, RULES[name])
    assert compared > 30
    assert bound > 30


def _can_be_written(world: World) -> bool:
    """Values don't say when inputs will have moved."""
    now, waits = world.tally[0].now, []
    for first in world.places["wait_head"].tolist():
        shard = first
        while shard >= 0:
            waits.append(shard)
            shard = int(world.shards[shard].next)
    return all(world.shards[shard].inputs_s <= now for shard in waits)


def _decided(encoded: Encoded, rule: Rule) -> Bound:
    world = copy(encoded.world)
    before, count = int(world.tally[0].shards), int(world.tally[0].ready)
    # At one epoch, the order in which stages became ready is the simulator's own.
    order = sorted(world.ready[:count].tolist(), key=lambda s: (world.stages[s].ready_s, encoded.stages[s]))
    world.ready[:count] = order
    dispatch(world, make_profile(world), rule)
    return {
        (encoded.stages[row.stage], encoded.places[row.place], int(row.prompts))
        for row in world.shards[before : world.tally[0].shards]
    }


def _planned(encoded: Encoded, workflows: tuple[Workflow, ...], fleet: Fleet, profile: Profile, rule: Rule) -> Plan:
    world, now = encoded.world, float(encoded.world.tally[0].now)
    project(world, profile, rule.sight)
    status = dict(zip(encoded.stages, world.stages["status"].tolist(), strict=True))
    arrived = [w for w in workflows if w.arrival_s <= now]
    known = {
        w.id: replace(w, finished=frozenset(s for s in w.stages if status[StageRef(w.id, s)] == DONE)) for w in arrived
    }
    frontier = [
        ReadyStage(ref, float(world.stages[at].ready_s))
        for at, ref in enumerate(encoded.stages)
        if status[ref] == READY
    ]
    state = ClusterState(
        fleet,
        {name: _place(encoded, profile, at) for at, name in enumerate(encoded.places)},
        {
            node: frozenset(m for k, m in enumerate(encoded.models) if world.host_used_s[n, k] >= 0)
            for n, node in enumerate(fleet.nodes)
        },
        _outputs(encoded, list(fleet.nodes)),
    )
    return plan(Problem(frontier, known, state, CostModel(), now), PlanConfig(rule))


def _place(encoded: Encoded, profile: Profile, at: int) -> PlaceState:
    world, now = encoded.world, float(encoded.world.tally[0].now)
    resident = {}
    for m, name in enumerate(encoded.models):
        residency = world.resident[at, m]
        if residency.status != ABSENT:
            ready_s = 0.0 if residency.status == LOADED else float(profile.ready_s[at, m])
            resident[name] = Residency(name, ready_s, float(residency.used_s))
    keys, size = {number: key for key, number in encoded.segments.items()}, len(world.segments)
    cached: dict[str, CachedSegment] = {}
    cell = int(world.devices[world.places[at].home].oldest)
    while cell >= 0:
        segment = world.segments[cell % size]
        if cell // size == at:
            used_s = now - 1.0 + 1e-6 * len(cached)
            cached[keys[cell % size]] = CachedSegment(int(segment.tokens), used_s, encoded.models[segment.model])
        cell = int(world.cells[cell].newer)
    return PlaceState(resident, cached, tuple(_running(encoded, at)), float(profile.prefill_free_s[at]))


def _running(encoded: Encoded, at: int) -> list[Running]:
    world, now = encoded.world, float(encoded.world.tally[0].now)
    p, rows = world.places[at], []

    def add(shard: int, prefill_end_s: float, finish_s: float) -> None:
        row = world.shards[shard]
        ref, model = encoded.stages[row.stage], encoded.models[world.stages[row.stage].model]
        rows.append(Running(ref.workflow, ref.stage, model, int(row.prompts), prefill_end_s, finish_s))

    factor = float(p.step)
    attained_s = p.attained_s + (now - p.attained_at_s) / factor
    shard = int(p.decode_head)
    while shard >= 0:
        row = world.shards[shard]
        s = world.stages[row.stage]
        tps = world.decode_tps[s.model, at]
        expected_s = s.expected_tokens / tps
        done_s = attained_s - (row.attained_end_s - s.output_tokens / tps)
        left_s = max(expected_s - done_s, _OVERDUE * max(expected_s, done_s))
        add(shard, now, now + left_s * factor)
        shard = int(row.next)
    prefill_free_s = max(now, float(p.prefill_until_s))
    if p.prefill_shard >= 0:
        add(int(p.prefill_shard), prefill_free_s, prefill_free_s + 1.0)
    for first in (int(p.prefill_head), int(p.wait_head)):
        shard = first
        while shard >= 0:
            # What has not begun is quoted by the planner itself, in the order of these ends.
            prefill_free_s = max(now, prefill_free_s) + 1.0
            add(shard, prefill_free_s, prefill_free_s + 1.0)
            shard = int(world.shards[shard].next)
    return rows


def _outputs(encoded: Encoded, nodes: list[str]) -> dict[tuple[str, str], tuple[tuple[str, float], ...]]:
    world = encoded.world
    outputs: dict[tuple[str, str], tuple[tuple[str, float], ...]] = {}
    for at, ref in enumerate(encoded.stages):
        s = world.stages[at]
        if s.status == DONE and s.tool == 0:
            rows = world.shards[s.first_shard : s.first_shard + s.shards]
            outputs[ref] = tuple((nodes[world.places[r.place].node], r.prompts / s.prompts) for r in rows)
    return outputs
