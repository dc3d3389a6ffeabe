"""A range is cut at midnights, and nothing of it is lost."""

from __future__ import annotations

from airflow_fate.costs.days import DAY_S, day_of, days

MIDNIGHT = 20_000 * DAY_S


def test_a_range_is_cut_at_midnights() -> None:
    assert list(days(MIDNIGHT - 10, MIDNIGHT + DAY_S + 5)) == [
        (MIDNIGHT - 10, MIDNIGHT),
        (MIDNIGHT, MIDNIGHT + DAY_S),
        (MIDNIGHT + DAY_S, MIDNIGHT + DAY_S + 5),
    ]
    assert list(days(5, 5)) == []


def test_a_day_begins_at_its_midnight() -> None:
    assert [day_of(at) for at in (MIDNIGHT, MIDNIGHT + 0.5, MIDNIGHT - 0.5)] == [MIDNIGHT, MIDNIGHT, MIDNIGHT - DAY_S]
