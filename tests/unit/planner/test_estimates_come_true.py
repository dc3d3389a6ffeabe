"""Does what a pass expects of a stage that it binds come true, where outputs are as expected?"""

from __future__ import annotations

import numpy as np
import pytest

from airflow_fate.physics.dynamics.event_loop import advance
from airflow_fate.physics.world.arrays import World
from airflow_fate.physics.world.encode import encode
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.planner.search.portfolio import GREEDY
from airflow_fate.simulator.suites import find_scenarios


def _played(scenario: str, by: Rule) -> tuple[World, dict[int, tuple[float, float]]]:
    """The world at its end; of each stage that was bound whole, when its prefill should begin and end."""
    (instance,) = find_scenarios("real-dag", scenario)
    workload, fleet = instance.build(0)
    world = encode(workload.workflows, fleet, log=False).world
    profile = make_profile(world, explain=True)
    estimated: dict[int, tuple[float, float]] = {}
    while advance(world):
        profile.counts[0].traced = 0
        dispatch(world, profile, by)
        rows = profile.trace[: profile.counts[0].traced]
        bound = rows[rows["held"] == 0]
        estimated |= {int(row.stage): (float(row.begin_s), float(row.end_s)) for row in bound}
    return world, {stage: times for stage, times in estimated.items() if world.stages[stage].shards == 1}


@pytest.mark.parametrize("objective", ["makespan", "p95"])
@pytest.mark.parametrize("scenario", ["high-mixed", "high-groups"])
def test_prompts_are_computed_when_and_for_as_long_as_was_quoted(scenario: str, objective: str) -> None:
    world, estimated = _played(scenario, GREEDY[objective])
    assert len(estimated) > 500
    begin_s, end_s = np.array(list(estimated.values())).T
    stages = world.stages[list(estimated)]
    shards = world.shards[stages["first_shard"]]
    computed_s = shards["tokens"] / world.prefill_tps[stages["model"], shards["place"]]
    np.testing.assert_allclose(end_s - begin_s, computed_s, atol=1e-6)
    assert not np.any(shards["prefill_s"] > begin_s + 1e-6)
