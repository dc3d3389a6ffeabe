"""Learned speeds survive a restart, are not written with every answer, and nonsense begins anew."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from airflow_fate.executor.runs.kept_speeds import EVERY, costs_of, laws_to_keep, slowness_to_keep
from airflow_fate.physics.calibration import observe
from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.law import Law, Measured, Speeds, described_law
from airflow_fate.state.ledger import transaction
from airflow_fate.state.speeds import KeptSpeeds, LearnedSpeeds
from airflow_fate.state.tables import metadata

KEY = ("gpu", "m")
LAW = described_law(Speeds(1000.0, 50.0, 0.03, 0.0))


@pytest.fixture
def kept() -> LearnedSpeeds:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    return LearnedSpeeds(partial(transaction, engine))


def course(answers: int) -> Iterator[tuple[CostModel, CostModel]]:
    """The cost model before and after each answer of an engine twice as slow as described."""
    costs = CostModel()
    for _ in range(answers):
        after = observe(costs, KEY, LAW, "d", Measured(2.0, 1000.0), alone=True)
        yield costs, after
        costs = after


def test_what_was_kept_is_read_as_it_was(kept: LearnedSpeeds) -> None:
    *_, (before, after) = course(EVERY)
    ((key, document),) = laws_to_keep(before, after)
    kept.record_law(*key, document)
    kept.record_slowness("d", 2.5)
    kept.record_slowness("d", 1.5)
    assert costs_of(kept.read()) == CostModel(laws=after.laws, slowness={"d": 1.5})


def test_a_law_is_kept_with_its_first_answer_and_then_with_every_fifth() -> None:
    written = [bool(list(laws_to_keep(before, after))) for before, after in course(11)]
    assert [answer for answer, is_kept in enumerate(written, 1) if is_kept] == [1, EVERY, 2 * EVERY]


def test_a_device_is_kept_when_it_has_moved() -> None:
    assert not list(slowness_to_keep(CostModel(), CostModel(slowness={"d": 1.01})))
    assert list(slowness_to_keep(CostModel(), CostModel(slowness={"d": 1.2}))) == [("d", 1.2)]


def _document(**changes: Any) -> dict[str, Any]:
    *_, (before, after) = course(1)
    ((_, document),) = laws_to_keep(before, after)
    return document | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": float("nan")},
        {"coefficients": [1.0]},
        {"coefficients": [0.0, 1.0, 1.0, 1.0]},
        {"deviations": []},
        {"latest": [{"seconds": -1.0}]},
        {"described": {"prefill_tps": -1, "decode_tps": 1, "decode_slowdown": 0, "context_slowdown": 0}},
        {"answers": "many"},
    ],
)
def test_nonsense_begins_anew_and_is_said(changes: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert costs_of(KeptSpeeds({KEY: _document(**changes)}, {"d": float("inf")})) == CostModel()
    assert "m on gpu make no sense and begin anew" in caplog.text


def test_a_law_that_was_read_learns_on() -> None:
    law = costs_of(KeptSpeeds({KEY: _document()})).laws[KEY]
    assert isinstance(law, Law)
    assert law.after(Measured(2.0, 1000.0)).answers == 2
