"""The problem solved for all places at once: exact where it is an assignment, valid elsewhere, and it can begin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.restart.snapshot import snapshot
from airflow_fate.physics.world.arrays import BOUND, CHANGING, READY, World, copy
from airflow_fate.planner.dispatch.joint import dispatch_jointly
from airflow_fate.planner.dispatch.rollout import rollout
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.search.joint import improve_assignment
from airflow_fate.planner.search.joint.problem import AssignmentProblem, build_problem
from airflow_fate.planner.search.joint.solve import Limit, assign, solve
from airflow_fate.simulator.instances import random_instance

RULE = GREEDY_IN_HEARTBEAT
LIMIT = Limit(wall_s=5.0, deterministic=1.0)


def world_of(seed: int, devices: int, stages: int) -> World:
    frontier, workflows, state = random_instance(seed, devices, stages)
    return snapshot(frontier, workflows.values(), state, CostModel(), 0.0).world


def problem_of(seed: int, devices: int, stages: int, shards: bool = False) -> AssignmentProblem:
    world = world_of(seed, devices, stages)
    if not shards:
        world.stages["max_shards"] = 1
    return build_problem(world, make_profile(world), RULE)


def plain_problems(count: int) -> list[AssignmentProblem]:
    problems = (problem_of(seed, 3, 5) for seed in itertools.count())
    return list(
        itertools.islice((problem for problem in problems if problem.is_plain_assignment and problem.columns), count)
    )


def cheapest_by_enumeration(problem: AssignmentProblem) -> float:
    options = [
        [
            (c.shares[0][0], price)
            for c, price in zip(problem.columns, problem.own_price_s, strict=True)
            if c.stage == stage
        ]
        + [(-1 - stage, problem.defer_s[stage])]
        for stage in range(len(problem.stages))
    ]
    return min(
        sum(price for _, price in choice)
        for choice in itertools.product(*options)
        if len({at for at, _ in choice}) == len(choice)
    )


def test_a_plain_assignment_is_the_cheapest() -> None:
    for problem in plain_problems(4):
        assert assign(problem).objective_s == pytest.approx(cheapest_by_enumeration(problem))


def test_cpsat_agrees_with_the_assignment_where_nothing_is_loaded() -> None:
    problems = (problem for problem in plain_problems(30) if not problem.load_s)
    for problem in itertools.islice(problems, 4):
        exact, solution = assign(problem), solve(problem, {}, set(), LIMIT)
        assert solution is not None
        assert solution.status == "OPTIMAL"
        assert solution.objective_s == pytest.approx(exact.objective_s, rel=0.02, abs=0.05)
        assert solution.gap <= 0.01


@pytest.mark.parametrize("seed", range(6))
def test_a_joint_assignment_takes_every_stage_at_most_once_within_capacity(seed: int) -> None:
    problem = problem_of(seed, 6, 20, shards=True)
    solution = solve(problem, {}, set(), LIMIT)
    assert solution is not None
    stages = [column.stage for column in solution.chosen]
    assert len(set(stages)) == len(stages)
    for at, capacity in enumerate(problem.capacity):
        sequences = [min(prompts, capacity) for c in solution.chosen for place, prompts in c.shares if place == at]
        assert sum(sequences) <= capacity


def test_every_stage_lists_a_place() -> None:
    problem = problem_of(1, 8, 12)
    assert {column.stage for column in problem.columns} == set(range(len(problem.stages)))


def test_looking_for_a_joint_assignment_leaves_the_world_alone() -> None:
    world = world_of(2, 6, 20)
    before = copy(world)
    improve_assignment(world, make_profile(world), RULE, LIMIT)
    assert all(np.array_equal(getattr(before, name), getattr(world, name)) for name in CHANGING)


def test_equal_worlds_have_equal_assignments() -> None:
    first, second = (
        improve_assignment(world_of(3, 6, 20), make_profile(world_of(3, 6, 20)), RULE, LIMIT) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("seed", range(6))
def test_a_joint_assignment_begins_and_the_rule_goes_on(seed: int) -> None:
    world = world_of(seed, 6, 20)
    profile = make_profile(world)
    problem = improve_assignment(world, profile, RULE, LIMIT)
    assert problem is not None
    stages = [stage for stage, _, _ in problem.shares]
    bound = dispatch_jointly(world, profile, RULE, problem.shares)
    assert bound
    statuses = world.stages["status"][sorted(set(stages))]
    assert (statuses == BOUND).sum() == bound
    assert ((statuses == BOUND) | (statuses == READY)).all()
    assert (world.devices["used_bytes"] <= world.devices["memory_bytes"] * (1 + 1e-9)).all()
    rollout(world, profile, RULE, 1 << 60)
    assert (world.workflows["left"] == 0).all()
