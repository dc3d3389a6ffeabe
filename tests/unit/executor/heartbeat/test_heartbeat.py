"""A heartbeat's robustness: one task's failure is not the others', and what ended elsewhere is forgotten here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from airflow_fate.executor.frontier import Adopted, Release
from airflow_fate.executor.planning.planner import NO_FLEET, NO_PLANNER
from airflow_fate.messages import UNFENCED, verify
from airflow_fate.state.ledger import ClaimLost, Ledger, Reservation
from airflow_fate.state.local import LocalFleet
from airflow_fate.state.tables import metadata
from airflow_fate.workflow import StageRef
from tests.unit.executor.builders import SECRET, report, reservation, view
from tests.unit.executor.scheduler import World
from tests.until import until

VIEW = view(report("d0"), report("d1"))


@pytest.fixture
def database() -> Iterator[Engine]:
    """Airflow's database, not migrated for FATE."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, database: Engine) -> World:
    """A scheduler without FATE's tables."""
    return World(monkeypatch, database)


@pytest.fixture
def world(bare: World, database: Engine) -> World:
    metadata.create_all(database)
    return bare


def outcomes(world: World, *names: str) -> list[str | None]:
    return [reservation.outcome for reservation in world.ledger.of_runs([("dag", name) for name in names])]


@pytest.mark.parametrize("error", [ClaimLost("taken"), RuntimeError("the database is away")])
def test_a_claim_that_fails_leaves_its_task_held_and_the_others_bound(world: World, error: Exception) -> None:
    class Refusing(Ledger):
        def claim(self, wanted: Reservation) -> Reservation:
            if wanted.task_id == "a":
                raise error
            return super().claim(wanted)

    world.rewire(replace(world.edges, ledger=Refusing(world.edges.store.connect)))
    world.hold("a")
    world.hold("b")
    world.cycle()
    assert (world.held, world.bound) == (["a"], {"b"})


def test_a_binding_that_cannot_be_written_gives_its_devices_back(world: World) -> None:
    world.store.refuses = lambda task_id, key: True
    world.hold("a")
    world.hold("b")
    world.cycle()
    assert outcomes(world, "a", "b") == ["handover failed", "handover failed"]
    assert world.held == ["a", "b"]


def test_a_task_that_cannot_be_submitted_gives_its_devices_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(ti_id: str) -> None:
        raise RuntimeError("no token")

    monkeypatch.setattr(world, "submit", fail)
    world.hold("a")
    world.hold("b")
    world.cycle()
    assert outcomes(world, "a", "b") == ["handover failed", "handover failed"]
    assert world.held == ["a", "b"]


def test_what_another_scheduler_has_released_is_forgotten(world: World) -> None:
    world.frontier.handle(Adopted("try-a", "a", StageRef("dag/run", "a"), "r1", 0.0))
    world.cycle()
    assert len(world.frontier) == 0


def test_gateways_are_told_once_that_a_group_has_lost_a_member(world: World) -> None:
    world.claim(reservation("d0", "d1", place="g"))
    whole, half = VIEW, replace(VIEW, fleet=replace(VIEW.fleet, groups={}))
    for seen in (whole, half, half):
        world.source.view = seen
        world.cycle()
    assert world.notifier.ends == [
        (("http://127.0.0.1/d0", "http://127.0.0.1/d1"), "r1", "its group has lost a member")
    ]


def test_a_task_that_was_held_says_so_in_its_binding(world: World) -> None:
    world.source.view = view(report("d0"), report("d1"), unusable=frozenset({"d0", "d1"}))
    world.hold("a")
    world.cycle()
    world.source.view = VIEW
    world.cycle()
    binding = world.binding("a")
    assert binding is not None
    assert binding.held_s == pytest.approx(4.0)
    assert "none of the 2 devices of the fleet may get tasks now" in binding.held_because


def test_a_release_that_finds_the_database_away_is_done_in_the_next_heartbeat_and_others_at_once(world: World) -> None:
    class Away(Ledger):
        is_away = True

        def release(self, reservation_id: str, outcome: str) -> bool:
            if reservation_id == "r-a" and self.is_away:
                self.is_away = False
                raise OperationalError("", {}, Exception("away"))
            return super().release(reservation_id, outcome)

    world.rewire(replace(world.edges, ledger=Away(world.edges.store.connect)))
    for name, device in (("a", "d0"), ("b", "d1")):
        world.claim(reservation(device, id=f"r-{name}", ti_id=f"try-{name}", run_id=name))
        world.heartbeat.later(Release(f"r-{name}", "revoked"))
    world.cycle()
    assert outcomes(world, "a", "b") == [None, "revoked"]
    world.cycle()
    assert outcomes(world, "a", "b") == ["revoked", "revoked"]


# Without a fleet, without tables


def test_without_a_fleet_a_task_waits_and_is_told_what_to_look_at(world: World, tmp_path: Path) -> None:
    world.rewire(replace(world.edges, source=LocalFleet(tmp_path / "nowhere")))
    world.hold("a", for_s=10.0)
    world.cycle()
    assert (world.said, world.held) == ([("a", NO_FLEET)], ["a"])


def test_while_all_devices_are_away_a_task_waits_and_is_told_what_to_do(world: World) -> None:
    world.source.view = view(report("d0"), report("d1"), unusable=frozenset({"d0", "d1"}))
    world.hold("a", for_s=10.0)
    world.cycle()
    ((_, text),) = world.said
    assert text.startswith("none of the 2 devices of the fleet may get tasks now")
    assert "fate fleet up" in text


def test_while_the_planner_is_loaded_the_scheduler_goes_on_and_a_task_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = threading.Event()
    monkeypatch.setattr("airflow_fate.planner.warm.warm", loaded.wait)
    world.hold("a", for_s=10.0)
    world.heartbeat.start()
    try:
        world.cycle()
        assert (world.said, world.submitted) == ([("a", NO_PLANNER)], [])
        loaded.set()
        until(lambda: not world.edges.decider.is_loading)
        world.cycle()
        assert world.bound == {"a"}
    finally:
        loaded.set()
        world.heartbeat.stop()


def test_without_tables_a_task_is_bound_unfenced_and_warned(bare: World) -> None:
    bare.hold("a")
    bare.cycle()
    binding = bare.binding("a")
    assert binding is not None
    (share,) = binding.shares
    claims = verify(share.token, SECRET, (share.device,))
    assert (claims.fence, claims.live) == (UNFENCED, ())
    assert "run `airflow db migrate`" in binding.warning


def test_without_tables_a_device_is_not_given_twice(bare: World) -> None:
    bare.source.view = view(report("d0"))
    bare.hold("a")
    bare.hold("b")
    bare.cycle()
    bare.cycle()
    assert len(bare.bound) == 1
    assert len(bare.held) == 1


def test_tables_that_come_back_are_used_and_tasks_of_the_standby_forgotten(bare: World, database: Engine) -> None:
    bare.hold("a")
    bare.cycle()
    assert len(bare.frontier.running()) == 1
    metadata.create_all(database)
    bare.edges.store.doubt()
    bare.cycle()
    assert len(bare.frontier) == 0
    assert bare.edges.store.failure == ""


def test_tables_that_get_lost_are_missed_with_the_next_cycle(world: World, database: Engine) -> None:
    world.cycle()
    metadata.drop_all(database)
    world.hold("a")
    with pytest.raises(DBAPIError):
        world.cycle()
    world.cycle()
    assert world.bound == {"a"}


def test_without_tables_nothing_is_known_of_what_a_dead_scheduler_ran(bare: World) -> None:
    assert bare.heartbeat.live_reservations() == {}


def test_what_a_held_try_still_holds_is_given_back_and_the_try_is_bound(world: World) -> None:
    """Another scheduler had bound its part before a deferral, and nobody saw it as deferred."""
    world.claim(reservation("d0", id="before", ti_id="try-a", run_id="a", task_id="a", stage="a"))
    world.hold("a")
    world.cycle()
    assert outcomes(world, "a") == ["left over", None]
    assert world.bound == {"a"}


def test_a_clock_that_is_set_back_delays_no_release(world: World) -> None:
    """An idle scheduler, whose clock ran an hour ahead for a while, gives back what another one had bound."""
    world.cycle(after_s=3600.0)
    world.claim(reservation("d0", ti_id="try-a", run_id="a", task_id="a", stage="a"))
    world.ended["try-a"] = "success"
    world.cycle(after_s=-3600.0)
    assert outcomes(world, "a") == ["success"]


def test_a_clock_that_is_set_back_delays_no_plan(world: World) -> None:
    class Refusing(Ledger):
        is_asked = False

        def claim(self, wanted: Reservation) -> Reservation:
            if not self.is_asked:
                self.is_asked = True
                raise ClaimLost("taken")
            return super().claim(wanted)

    world.rewire(replace(world.edges, ledger=Refusing(world.edges.store.connect)))
    world.now += 3600.0
    world.hold("a")
    world.cycle()
    world.cycle(after_s=-3600.0)
    assert world.bound == {"a"}


def test_a_database_that_goes_away_in_mid_plan_costs_the_rest_of_the_plan_a_heartbeat(world: World) -> None:
    """The devices of the first can't be given back then; they are later, and the second is not forgotten."""

    class Away(Ledger):
        is_away = True

        def release(self, reservation_id: str, outcome: str) -> bool:
            if self.is_away:
                raise OperationalError("COMMIT", None, Exception("the database is away"))
            return super().release(reservation_id, outcome)

    ledger = Away(world.edges.store.connect)
    world.rewire(replace(world.edges, ledger=ledger))
    world.store.refuses = lambda task_id, key: task_id == "a"
    world.hold("a")
    world.hold("b")
    world.cycle()
    assert world.bound == {"b"}
    ledger.is_away = False
    world.store.refuses = lambda task_id, key: False
    world.cycle()
    assert world.bound == {"a", "b"}
    assert outcomes(world, "a") == ["handover failed", None]
