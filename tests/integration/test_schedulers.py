"""A scheduler that dies, beside another one: the run completes, no try runs twice, no capacity stays taken."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.integration.conftest import World
from tests.until import until

pytestmark = [pytest.mark.integration, pytest.mark.engine, pytest.mark.postgres]


def test_a_killed_scheduler_costs_nothing_but_time(on_postgres: World) -> None:
    world = on_postgres
    world.stack.api.wait_dag("slow_answers")
    runs = [world.stack.api.trigger("slow_answers") for _ in range(2)]
    until(
        lambda: any(
            reservation.ended_at is None for run in runs for reservation in world.reservations("slow_answers", run)
        )
    )
    world.stack.crash("scheduler-1")
    for run in runs:
        assert world.finished("slow_answers", run, timeout_s=240) == "success"
    for run in runs:
        reservations = world.reservations("slow_answers", run)
        answered = Counter(
            (reservation.stage, reservation.try_number)
            for reservation in reservations
            if reservation.outcome == "success"
        )
        assert set(answered.values()) == {1}
        assert len({reservation.ti_id for reservation in reservations}) == len(reservations)
    assert world.ledger.live() == []
    assert world.ledger.audit() == {}
    world.stack.start("scheduler-1")
