"""Does what a pass expects of a stage that it binds come true, where outputs are as expected?"""

from __future__ import annotations

import numpy as np
import pytest

from airflow_fate.physics.kernel.encode import encode
from airflow_fate.physics.kernel.engine import advance
from airflow_fate.physics.kernel.world import World
from airflow_fate.planner.lists.decide import decide
from airflow_fate.planner.lists.rule import Rule
from airflow_fate.planner.lists.view import make_view
from airflow_fate.planner.portfolio import GREEDY
from airflow_fate.simulator.suites import find_scenarios


def _played(scenario: str, by: Rule) -> tuple[World, dict[int, tuple[float, float]]]:
    """The world at its end; of each stage that was bound whole, when its prefill should begin and end."""
    (one,) = find_scenarios("real-dag", scenario)
    workload, fleet = one.build(0)
    world = encode(workload.workflows, fleet, log=False).world
    view = make_view(world, explain=True)
    quoted: dict[int, tuple[float, float]] = {}
    while advance(world):
        view.marks[0].booked = 0
        decide(world, view, by)
        rows = view.booked[: view.marks[0].booked]
        bound = rows[rows["held"] == 0]
        quoted |= {int(row.stage): (float(row.begin_s), float(row.end_s)) for row in bound}
    return world, {stage: times for stage, times in quoted.items() if world.stages[stage].shards == 1}


@pytest.mark.parametrize("objective", ["makespan", "p95"])
@pytest.mark.parametrize("scenario", ["high-mixed", "high-groups"])
def test_prompts_are_computed_when_and_for_as_long_as_was_quoted(scenario: str, objective: str) -> None:
    world, quoted = _played(scenario, GREEDY[objective])
    assert len(quoted) > 500
    begin_s, end_s = np.array(list(quoted.values())).T
    stages = world.stages[list(quoted)]
    shards = world.shards[stages["first_shard"]]
    computed_s = shards["tokens"] / world.prefill_tps[stages["model"], shards["place"]]
    np.testing.assert_allclose(end_s - begin_s, computed_s, atol=1e-6)
    assert not np.any(shards["prefill_s"] > begin_s + 1e-6)
