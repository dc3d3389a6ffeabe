"""The search by playing forward: what it may never do, and what is left when its parts are off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from airflow_fate.physics.dynamics.event_loop import advance
from airflow_fate.physics.restart.expected import as_expected
from airflow_fate.physics.world.arrays import World, copy
from airflow_fate.physics.world.encode import encode
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.drivers import driver
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.planner.registry import NAMES
from airflow_fate.planner.search.search import PARTS, Search, Settings
from airflow_fate.simulator.simulate import Run, simulate
from airflow_fate.simulator.suites import find_scenarios


def _world(log: bool = True, suite: str = "small", scenario: str = "small-mixed") -> World:
    workload, fleet = find_scenarios(suite, scenario)[0].build(3)
    return encode(workload.workflows, fleet, output_tokens=workload.output_tokens, log=log).world


def _simulated(policy: str, objective: str = "mean", **options: float) -> Run:
    workload, fleet = find_scenarios("small", "small-mixed")[0].build(3)
    return simulate(workload, fleet, policy, objective=objective, seed=1, options=options)


def test_with_all_parts_off_it_is_the_plain_policy_event_by_event() -> None:
    off: dict[str, Any] = dict.fromkeys(PARTS, 0)
    assert _simulated("fate", **off).events == _simulated("dispatch").events


@pytest.mark.parametrize("objective", ["makespan", "mean", "p95", "balanced"])
def test_under_the_estimates_it_never_goes_on_worse_than_greedy(objective: str) -> None:
    world = _world(log=False)
    search, profile = Search(world, Settings(objective, seed=5)), make_profile(world)
    while advance(world):
        if world.tally[0].ready:
            known = search.expected(world)
            search.improve(known)
            assert search.rollout_score(known, search.incumbent) <= search.rollout_score(known, search.greedy)
        dispatch(world, profile, search.incumbent)


class _Counting(Search):
    """Counts the candidates instead of playing them."""

    count = 0

    def rollout_score(self, *_: object, **__: object) -> float:
        self.count += 1
        return 1.0


def _candidates(world: World, settings: Settings) -> int:
    while world.tally[0].arrived < len(world.arrivals):
        advance(world)
    search = _Counting(world, settings)
    search.improve(search.expected(world))
    return search.count


def test_the_fewer_stages_are_left_the_more_candidates_are_played() -> None:
    many = _candidates(_world(False, "real-dag", "burst-uniform"), Settings())
    few = _candidates(_world(False), Settings())
    assert few > 5 * many
    assert _candidates(_world(False), Settings(tries=2)) == 3


def test_a_rollout_knows_no_output_that_has_not_ended() -> None:
    world = _world(log=False)
    disclosed = copy(world)
    disclosed.stages["output_tokens"] = disclosed.stages["output_tokens"] * 7 + 100
    scores = []
    for each in (world, disclosed):
        for _ in range(2):
            advance(each)
        search = Search(each, Settings("balanced"))
        scores.append(search.rollout_score(search.expected(each), search.incumbent))
    assert scores[0] == scores[1]


def test_a_rollout_leaves_the_real_world_alone() -> None:
    world = _world(log=False)
    advance(world)
    before = {name: np.copy(getattr(world, name)) for name in ("stages", "places", "resident", "workflows")}
    search = Search(world, Settings("mean"))
    search.improve(search.expected(world))
    assert all((before[name] == getattr(world, name)).all() for name in before)


def test_a_horizon_of_none_sees_only_what_is_ready() -> None:
    world = _world(log=False)
    advance(world)
    known = copy(world)
    as_expected(known, 0)
    hidden = (known.stages["status"] == 0) & (known.stages["steps"] > 0)
    assert hidden.any()
    assert (known.stages["duration_s"][hidden] == 0).all()


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ValueError, match=r"no part rollout; it has holding"):
        driver("fate", "mean", 0, {"rollout": 0})


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match=r"no policy 'fat'; there are fate, round_robin"):
        driver("fat", "mean", 0, {})


def test_an_unknown_objective_is_named() -> None:
    with pytest.raises(ValueError, match=r"no objective 'median'; there are makespan"):
        driver("fate", "median", 0, {})


@pytest.mark.parametrize("policy", NAMES)
def test_every_policy_finishes_every_stage_once(policy: str) -> None:
    events = _simulated(policy).events
    ready = sorted((e["workflow"], e["stage"]) for e in events if e["event"] == "ready")
    finished = sorted((e["workflow"], e["stage"]) for e in events if e["event"] == "finish")
    assert ready == finished
    assert len(set(finished)) == len(finished)


def test_round_robin_takes_the_places_in_cyclic_order() -> None:
    bound = [e["device"] for e in _simulated("round_robin_push").events if e["event"] == "bind"]
    assert len(set(bound[:4])) == 4
