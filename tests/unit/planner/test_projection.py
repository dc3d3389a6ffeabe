"""When will a place's prefill slot be free, with what is bound there and what has been placed?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from airflow_fate.physics.dynamics.event_loop import advance
from airflow_fate.physics.world.arrays import BOUND
from airflow_fate.physics.world.encode import encode
from airflow_fate.planner.dispatch.dispatch import dispatch
from airflow_fate.planner.dispatch.rule import make_rule
from airflow_fate.planner.forecast.profile import Profile, make_profile, prefill_from_s, take_prefill
from airflow_fate.planner.forecast.projection import project
from airflow_fate.planner.forecast.sight import Sight
from airflow_fate.workflow import Segment, StageRef, Workflow
from tests.unit.planner.helpers import apart, fleet, one_stage


def _profile(*intervals: tuple[float, float]) -> Profile:
    """Of one place whose prefill slot is free from 1 s on, but for these."""
    encoded = encode((one_stage(),), fleet(1))
    profile = make_profile(encoded.world)
    project(encoded.world, profile, Sight())
    take_prefill(profile, 0, 0.0, 1.0)
    for begin_s, end_s in intervals:
        take_prefill(profile, 0, begin_s, end_s)
    return profile


@pytest.mark.parametrize(
    ("able_s", "prefill_s", "from_s"),
    [(0.0, 4.0, 1.0), (0.0, 4.5, 7.0), (2.0, 3.0, 2.0), (2.0, 3.5, 7.0), (6.0, 1.0, 7.0), (0.0, 24.0, 32.0)],
)
def test_a_prompt_is_inserted_where_it_ends_before_the_next_one(able_s: float, prefill_s: float, from_s: float) -> None:
    assert prefill_from_s(_profile((30.0, 32.0), (5.0, 7.0)), 0, able_s, prefill_s) == from_s


def test_a_prompt_that_begins_when_the_slot_comes_free_is_no_gap() -> None:
    profile = _profile((5.0, 7.0), (1.0, 3.0))
    assert prefill_from_s(profile, 0, 0.0, 2.0) == 3.0
    assert prefill_from_s(profile, 0, 0.0, 2.5) == 7.0


@pytest.mark.parametrize("step", [1, -1])
def test_of_more_prompts_than_a_place_can_list_none_is_overlooked(step: int) -> None:
    profile = _profile(*((10.0 * k, 10.0 * k + 5.0) for k in range(1, 200)[::step]))
    assert prefill_from_s(profile, 0, 10.0, 6.0) == 1995.0


@pytest.mark.parametrize("follows", [0, 1])
def test_a_bound_stage_whose_inputs_are_on_their_way_is_expected_with_what_is_cached(follows: int) -> None:
    document: dict[str, Any] = {"prompt_tokens": 2100, "prefix": (Segment("document", 2000),)}
    parent = one_stage(model="there", prompt_tokens=40_000, output_bytes=1e10).stages["only"]
    child = one_stage(**document).stages["only"]
    chain = Workflow("chain", {"parent": parent, "only": child}, (("parent", "only"),))
    encoded = encode((one_stage("warm", **document), chain), apart())
    world, waits = encoded.world, encoded.stages.index(StageRef("chain", "only"))
    profile, by = make_profile(world), make_rule(by_arrival=1, waits=1, reserve=1, sees_arriving=follows)
    while world.stages[waits].status != BOUND:
        advance(world)
        dispatch(world, profile, by)
    project(world, profile, by.sight)
    (at,) = np.flatnonzero(profile.busy_intervals)
    assert profile.busy_until_s[at, 0] - profile.busy_from_s[at, 0] == pytest.approx(100 / 800)
