"""The ledger against its model, on SQLite; `make test-faults` does it longer, and on all databases."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.faults.ledger_machine import machine_on


def test_the_ledger_does_what_its_model_does(engine: Engine) -> None:
    limits = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)
    run_state_machine_as_test(machine_on(engine), settings=limits)
