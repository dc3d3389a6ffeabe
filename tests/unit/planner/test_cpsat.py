"""The wave solved for all places at once: exact where it is an assignment, valid elsewhere, and it can begin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airflow_fate.physics import CostModel
from airflow_fate.physics.kernel.snapshot import snapshot
from airflow_fate.physics.kernel.world import BOUND, CHANGING, READY, World, copy
from airflow_fate.planner.cpsat import apply_wave, improve_wave
from airflow_fate.planner.cpsat.solve import Limit, assign, solve
from airflow_fate.planner.cpsat.wave import Wave, build_wave
from airflow_fate.planner.heartbeat import GREEDY_IN_HEARTBEAT
from airflow_fate.planner.lists.play import play
from airflow_fate.planner.lists.view import make_view
from airflow_fate.simulator.instances import random_instance

RULE = GREEDY_IN_HEARTBEAT
LIMIT = Limit(wall_s=5.0, deterministic=1.0)


def world_of(seed: int, devices: int, stages: int) -> World:
    frontier, workflows, state = random_instance(seed, devices, stages)
    return snapshot(frontier, workflows.values(), state, CostModel(), 0.0).world


def wave_of(seed: int, devices: int, stages: int, shards: bool = False) -> Wave:
    world = world_of(seed, devices, stages)
    if not shards:
        world.stages["max_shards"] = 1
    return build_wave(world, make_view(world), RULE)


def plain_waves(count: int) -> list[Wave]:
    waves = (wave_of(seed, 3, 5) for seed in itertools.count())
    return list(itertools.islice((wave for wave in waves if wave.is_plain_assignment and wave.columns), count))


def cheapest_by_enumeration(wave: Wave) -> float:
    options = [
        [(c.shares[0][0], price) for c, price in zip(wave.columns, wave.own_price_s, strict=True) if c.stage == stage]
        + [(-1 - stage, wave.defer_s[stage])]
        for stage in range(len(wave.stages))
    ]
    return min(
        sum(price for _, price in choice)
        for choice in itertools.product(*options)
        if len({at for at, _ in choice}) == len(choice)
    )


def test_assignment_is_the_cheapest_wave() -> None:
    for wave in plain_waves(4):
        assert assign(wave).objective_s == pytest.approx(cheapest_by_enumeration(wave))


def test_cpsat_agrees_with_the_assignment_where_nothing_is_loaded() -> None:
    waves = (wave for wave in plain_waves(30) if not wave.load_s)
    for wave in itertools.islice(waves, 4):
        exact, found = assign(wave), solve(wave, {}, set(), LIMIT)
        assert found is not None
        assert found.status == "OPTIMAL"
        assert found.objective_s == pytest.approx(exact.objective_s, rel=0.02, abs=0.05)
        assert found.gap <= 0.01


@pytest.mark.parametrize("seed", range(6))
def test_wave_takes_every_stage_at_most_once_within_capacity(seed: int) -> None:
    wave = wave_of(seed, 6, 20, shards=True)
    found = solve(wave, {}, set(), LIMIT)
    assert found is not None
    stages = [column.stage for column in found.chosen]
    assert len(set(stages)) == len(stages)
    for at, capacity in enumerate(wave.capacity):
        taken = [min(prompts, capacity) for c in found.chosen for place, prompts in c.shares if place == at]
        assert sum(taken) <= capacity


def test_every_stage_lists_a_place() -> None:
    wave = wave_of(1, 8, 12)
    assert {column.stage for column in wave.columns} == set(range(len(wave.stages)))


def test_looking_for_a_wave_leaves_the_world_alone() -> None:
    world = world_of(2, 6, 20)
    before = copy(world)
    improve_wave(world, make_view(world), RULE, LIMIT)
    assert all(np.array_equal(getattr(before, name), getattr(world, name)) for name in CHANGING)


def test_equal_worlds_have_equal_waves() -> None:
    first, second = (improve_wave(world_of(3, 6, 20), make_view(world_of(3, 6, 20)), RULE, LIMIT) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("seed", range(6))
def test_a_wave_begins_and_the_rule_goes_on(seed: int) -> None:
    world = world_of(seed, 6, 20)
    view = make_view(world)
    wave = improve_wave(world, view, RULE, LIMIT)
    assert wave is not None
    stages = [stage for stage, _, _ in wave.shares]
    bound = apply_wave(world, view, RULE, wave)
    assert bound
    statuses = world.stages["status"][sorted(set(stages))]
    assert (statuses == BOUND).sum() == bound
    assert ((statuses == BOUND) | (statuses == READY)).all()
    assert (world.devices["used_bytes"] <= world.devices["memory_bytes"] * (1 + 1e-9)).all()
    play(world, view, RULE, 1 << 60)
    assert (world.workflows["left"] == 0).all()
