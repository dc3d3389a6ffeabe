"""A budget that is used up stops a task before it takes a device, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from airflow_fate.state.presence import NOTED_EVERY_S
from airflow_fate.state.tables import metadata
from tests.unit.executor.builders import reservation
from tests.unit.executor.scheduler import SPEC, World


@pytest.fixture
def database() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def spec(tenant: str) -> dict[str, Any]:
    return {"fate": SPEC["fate"] | {"tenant": tenant}}


class Spent:
    """A scheduler, in whose day ``finance`` has spent 100 s already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine, action: str) -> None:
        budgets = f'[{{"tenant": "finance", "per": "day", "gpu_seconds": 60, "action": "{action}"}}]'
        self.world = World(monkeypatch, engine, budgets=budgets)
        # Not so near to midnight that the day's sums begin anew.
        self.world.now = 20_000.5 * 86_400
        claimed = self.world.claim(
            reservation("d0", id="before", tenant="finance", claimed_at=self.world.now - 100, run_id="before")
        )
        self.world.hold("theirs", spec("finance"), for_s=10.0)
        self.world.hold("others", spec("hr"))
        self.world.accounts.refresh()
        self.world.cycle()
        self.claimed = claimed


def test_hold_keeps_the_task_in_the_frontier_and_says_why(monkeypatch: pytest.MonkeyPatch, database: Engine) -> None:
    world = Spent(monkeypatch, database, "hold").world
    assert (world.held, world.bound) == (["theirs"], {"others"})
    (entry,) = world.frontier.held()
    assert entry.held_because.startswith("tenant 'finance' has spent 100.00 today (UTC) of the 60 GPU-seconds")
    assert world.said == [("theirs", entry.held_because)]
    assert str(world.frontier.story(entry.ti_id)[-1]).endswith(f"held: {entry.held_because}")


def test_fail_lets_the_task_fail_with_the_reason_and_without_a_device(
    monkeypatch: pytest.MonkeyPatch, database: Engine
) -> None:
    world = Spent(monkeypatch, database, "fail").world
    assert world.bound == {"others"}
    assert world.refused["theirs"].endswith("of [fate] budgets; it gets no device")
    assert world.ledger.of_runs([("dag", "theirs")]) == []


def test_warn_binds_the_task_and_tells_it(monkeypatch: pytest.MonkeyPatch, database: Engine) -> None:
    world = Spent(monkeypatch, database, "warn").world
    assert world.bound == {"theirs", "others"}
    theirs, others = world.binding("theirs"), world.binding("others")
    assert theirs is not None
    assert others is not None
    assert "tenant 'finance' has spent 100.00 today" in theirs.warning
    assert others.warning == ""


def test_a_claim_says_whose_it_is_and_on_which_gpu(monkeypatch: pytest.MonkeyPatch, database: Engine) -> None:
    world = World(monkeypatch, database)
    world.hold("theirs", spec("finance"))
    world.cycle()
    (claimed,) = world.ledger.live()
    assert (claimed.tenant, [share.gpu for share in claimed.shares]) == ("finance", ["cpu"])


def test_devices_that_are_there_are_noted_also_when_nobody_uses_them(
    monkeypatch: pytest.MonkeyPatch, database: Engine
) -> None:
    world = World(monkeypatch, database)
    began = world.now
    for _ in range(3):
        world.cycle(after_s=NOTED_EVERY_S)
    seen = dict(world.edges.presence.between(began, world.now + 1))
    assert seen.keys() == world.source.view.reports.keys()
    assert {span.end_at - span.start_at for span in seen.values()} == {2 * NOTED_EVERY_S}
