"""The wave solved for all places at once: exact where it is an assignment, valid and bounded elsewhere."""

from __future__ import annotations

import itertools
import time

import pytest

from airflow_fate.physics import CostModel
from airflow_fate.planner import PlanConfig, plan
from airflow_fate.planner.cpsat.solve import assign, solve
from airflow_fate.planner.cpsat.wave import Wave, build_wave
from airflow_fate.planner.outlook import Outlook
from airflow_fate.planner.problem import Problem, frame
from airflow_fate.simulator.instances import random_instance

CONFIG = PlanConfig(deadline_s=0.2, shards=False)


def wave_of(seed: int, devices: int, stages: int) -> tuple[Problem, Outlook, Wave]:
    frontier, workflows, state = random_instance(seed, devices, stages)
    problem = frame(frontier, workflows, state, CostModel(), 0.0, CONFIG)
    outlook = problem.outlook()
    return problem, outlook, build_wave(problem, outlook)


def plain_waves(count: int) -> list[tuple[Problem, Outlook, Wave]]:
    waves = (wave_of(seed, 3, 5) for seed in itertools.count())
    return list(itertools.islice((entry for entry in waves if entry[2].is_plain_assignment), count))


def cheapest_by_enumeration(wave: Wave) -> float:
    options = [
        [(c.shares[0][0], price) for c, price in zip(wave.columns, wave.own_price_s, strict=True) if c.stage == stage]
        + [(-1 - stage, wave.defer_s[stage])]
        for stage in range(len(wave.stages))
    ]
    full = {at for at, capacity in enumerate(wave.capacity) if not capacity}
    return min(
        sum(price for _, price in choice)
        for choice in itertools.product(*options)
        if len({at for at, _ in choice}) == len(choice) and not full & {at for at, _ in choice}
    )


def test_assignment_is_the_cheapest_wave() -> None:
    for _, _, wave in plain_waves(4):
        assert assign(wave).objective_s == pytest.approx(cheapest_by_enumeration(wave))


def test_cpsat_agrees_with_the_assignment_where_both_apply() -> None:
    for problem, outlook, wave in plain_waves(4):
        exact = assign(wave)
        found = solve(wave, problem, outlook, {}, wall_s=2.0)
        assert found is not None
        assert found.status == "OPTIMAL"
        assert found.objective_s == pytest.approx(exact.objective_s, rel=0.02, abs=0.05)
        assert found.bound_s <= found.objective_s
        assert found.gap <= 0.01


@pytest.mark.parametrize("seed", range(6))
def test_wave_takes_every_stage_at_most_once_within_capacity(seed: int) -> None:
    problem, outlook, wave = wave_of(seed, 6, 20)
    found = solve(wave, problem, outlook, {}, wall_s=2.0)
    assert found is not None
    stages = [column.stage for column in found.chosen]
    assert len(set(stages)) == len(stages)
    for at, capacity in enumerate(wave.capacity):
        assert sum(p for c in found.chosen for place, p in c.shares if place == at) <= max(capacity, 2)


def test_every_stage_lists_its_cheapest_places() -> None:
    _, _, wave = wave_of(1, 8, 12)
    for stage in range(len(wave.stages)):
        assert [column for column in wave.columns if column.stage == stage]


@pytest.mark.parametrize("deadline_s", [0.0, 0.001, 0.1])
def test_plan_keeps_its_deadline(deadline_s: float) -> None:
    instance = random_instance(0, 32, 100)
    plan(*random_instance(0, 2, 3), CostModel(), 0.0, PlanConfig(deadline_s=0.1))
    begin = time.perf_counter()
    plan(*instance, CostModel(), 0.0, PlanConfig())
    greedy_s = time.perf_counter() - begin
    begin = time.perf_counter()
    made = plan(*instance, CostModel(), 0.0, PlanConfig(deadline_s=deadline_s))
    assert time.perf_counter() - begin < deadline_s + 4 * greedy_s + 0.25
    if deadline_s < 0.01:
        assert made.solver in {"greedy", "assignment"}
