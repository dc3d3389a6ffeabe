"""When devices were there is noted in stretches, with gaps where nobody saw them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from airflow_fate.costs import Interval
from airflow_fate.state.ledger import transaction
from airflow_fate.state.presence import GAP_S, NOTED_EVERY_S, Presence
from airflow_fate.state.tables import metadata


@pytest.fixture
def presence() -> Iterator[Presence]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    yield Presence(partial(transaction, engine))
    engine.dispose()


def test_a_device_that_is_noted_again_and_again_was_there_all_the_time(presence: Presence) -> None:
    for now in (100.0, 130.0, 160.0):
        presence.note(["d0", "d1"], now)
    presence.note(["d0"], 190.0)
    assert sorted(presence.between(0, 1000)) == [("d0", Interval(100, 190)), ("d1", Interval(100, 160))]


def test_a_device_that_comes_again_was_away_meanwhile(presence: Presence) -> None:
    presence.note(["d0"], 100.0)
    presence.note(["d0"], 100.0 + GAP_S + 1)
    assert len(presence.between(0, 1000)) == 2


def test_a_device_that_was_there_before_a_gap_begins_anew_beside_one_that_stayed(presence: Presence) -> None:
    presence.note(["d0", "d1"], 0.0)
    for times in range(1, 5):
        presence.note(["d0"], times * NOTED_EVERY_S)
    presence.note(["d0", "d1"], 5 * NOTED_EVERY_S)
    assert sorted(presence.between(-1, 1000)) == [
        ("d0", Interval(0, 5 * NOTED_EVERY_S)),
        ("d1", Interval(0, 0)),
        ("d1", Interval(5 * NOTED_EVERY_S, 5 * NOTED_EVERY_S)),
    ]


def test_what_ended_long_ago_is_forgotten(presence: Presence) -> None:
    presence.note(["d0"], 100.0)
    presence.note(["d1"], 500.0)
    presence.prune(200.0)
    assert presence.between(0, 1000) == [("d1", Interval(500, 500))]
