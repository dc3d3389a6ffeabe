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
    until(lambda: any(one.ended_at is None for run in runs for one in world.reservations("slow_answers", run)))
    world.stack.crash("scheduler-1")
    for run in runs:
        assert world.finished("slow_answers", run, timeout_s=240) == "success"
    for run in runs:
        reservations = world.reservations("slow_answers", run)
        answered = Counter((one.stage, one.try_number) for one in reservations if one.outcome == "success")
        assert set(answered.values()) == {1}
        assert len({one.ti_id for one in reservations}) == len(reservations)
    assert world.ledger.live() == []
    assert world.ledger.audit() == {}
    world.stack.start("scheduler-1")
