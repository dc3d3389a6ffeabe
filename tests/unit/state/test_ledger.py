"""The ledger: room is never given twice, groups are all or nothing, a release happens once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, update

from airflow_fate.state.ledger import ClaimLost, DeviceShare, Ledger, Reservation, new_id, transaction
from airflow_fate.state.tables import device, metadata, reservation


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}", connect_args={"timeout": 30})

    @event.listens_for(engine, "begin")
    def begin_for_writing(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: object, record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    metadata.create_all(engine)
    ledger = Ledger(partial(transaction, engine), clock=lambda: 100.0)
    ledger.register({"gpu-0": 2, "gpu-1": 2})
    yield ledger
    engine.dispose()


def wanted(ti_id: str, *devices: str, sequences: int = 1) -> Reservation:
    return Reservation(
        id=new_id(),
        ti_id=ti_id,
        dag_id="d",
        run_id="r",
        task_id=f"task-{ti_id}",
        map_index=-1,
        try_number=1,
        stage=f"task-{ti_id}",
        model="m",
        policy="fate",
        claimed_at=50.0,
        prefill_end_at=51.0,
        finish_at=52.0,
        shares=tuple(DeviceShare(device, device, "node", sequences, 1, gpu="l4") for device in devices),
        chain=(("00ff", 12),),
        evict=(("gpu-0", "old"),),
        cost={"wait": 0.5},
        future_s=-0.25,
        tenant="finance",
    )


def test_a_claim_is_read_back_as_it_was_made(ledger: Ledger) -> None:
    claimed = ledger.claim(wanted("a", "gpu-0"))
    (live,) = ledger.live()
    assert live == replace(claimed, shares=(replace(claimed.shares[0], live=()),))
    assert claimed.shares[0].fence == 100_001, "fences begin at the time of registration, in milliseconds"


def test_room_is_given_no_more_often_than_there_is(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ledger.claim(wanted(name, "gpu-0"))
    with pytest.raises(ClaimLost, match="gpu-0 has no room"):
        ledger.claim(wanted("c", "gpu-0"))
    assert ledger.audit() == {}


def test_a_group_is_claimed_as_a_whole_or_not_at_all(ledger: Ledger) -> None:
    ledger.claim(wanted("a", "gpu-1", sequences=2))
    with pytest.raises(ClaimLost):
        ledger.claim(wanted("b", "gpu-0", "gpu-1", sequences=2))
    ledger.claim(wanted("c", "gpu-0", sequences=2))
    assert ledger.audit() == {}


def test_a_try_holds_one_live_reservation(ledger: Ledger) -> None:
    first = ledger.claim(wanted("a", "gpu-0"))
    with pytest.raises(ClaimLost, match="holds a live reservation already"):
        ledger.claim(wanted("a", "gpu-1"))
    ledger.release(first.id, "deferred")
    ledger.claim(wanted("a", "gpu-1"))
    assert ledger.audit() == {}


def test_a_release_gives_room_back_once(ledger: Ledger) -> None:
    claimed = ledger.claim(wanted("a", "gpu-0", sequences=2))
    assert ledger.release(claimed.id, "success") is True
    assert ledger.release(claimed.id, "success") is False
    assert ledger.live() == []
    ledger.claim(wanted("b", "gpu-0", sequences=2))
    assert ledger.audit() == {}
    ended = next(reservation for reservation in ledger.of_runs([("d", "r")]) if reservation.ti_id == "a")
    assert (ended.outcome, ended.ended_at) == ("success", 100.0)


def test_what_was_measured_is_kept_with_its_reservation(ledger: Ledger) -> None:
    claimed = ledger.claim(wanted("a", "gpu-0"))
    ledger.release(claimed.id, "success")
    ledger.record_facts(claimed.id, [{"cached_tokens": 3}])
    (ended,) = ledger.of_runs([("d", "r")])
    assert ended.facts == [{"cached_tokens": 3}]


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_no_number_that_json_cannot_hold_reaches_a_table(ledger: Ledger, number: float) -> None:
    claimed = ledger.claim(wanted("a", "gpu-0"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.record_facts(claimed.id, [{"decode_s": number}])
    for fields in ({"cost": {"wait": number}}, {"finish_at": number}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            ledger.claim(replace(wanted("b", "gpu-1"), **fields))
    assert ledger.audit() == {}


def test_an_estimate_without_end_of_an_older_release_is_read_as_due(ledger: Ledger) -> None:
    claimed = ledger.claim(wanted("a", "gpu-0"))
    with ledger._connect() as connection:
        connection.execute(update(reservation).where(reservation.c.id == claimed.id).values(finish_at=float("inf")))
    assert [reservation.finish_at for reservation in ledger.live()] == [claimed.claimed_at]


def test_however_much_has_ended_only_what_lives_is_looked_at(tmp_path: Path) -> None:
    """By the plans of the queries: a claim's, a heartbeat's, and pruning."""
    engine = create_engine(f"sqlite:///{tmp_path / 'many.db'}")
    metadata.create_all(engine)
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def explain(connection: Connection, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            rows = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            plans.extend(f"{row[-1]}: {statement[:60]}" for row in rows)

    ledger = Ledger(partial(transaction, engine), clock=lambda: 100.0)
    ledger.register({"gpu-0": 9})
    plans.clear()
    claimed = ledger.claim(wanted("a", "gpu-0"))
    ledger.live()
    ledger.release(claimed.id, "success")
    ledger.prune(0.0)
    assert plans
    assert [plan for plan in plans if plan.startswith("SCAN fate_reservation")] == []


def test_pruning_forgets_a_batch_of_the_oldest_at_a_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_fate.state.ledger.CHUNK", 2)
    for number in range(5):
        ledger._clock = lambda number=number: 100.0 + number  # type: ignore[misc]
        ledger.release(ledger.claim(wanted(f"t{number}", "gpu-0")).id, "success")
    ledger._clock = lambda: 1000.0
    kept = []
    while ledger.prune(0.0):
        kept.append({reservation.ti_id for reservation in ledger.of_runs([("d", "r")])})
    assert kept == [{"t2", "t3", "t4"}, {"t4"}, set()]


def test_a_try_that_an_older_scheduler_has_ended_may_be_bound_again(ledger: Ledger) -> None:
    claimed = ledger.claim(wanted("a", "gpu-0"))
    with ledger._connect() as connection:
        # As a release before that column did.
        connection.execute(update(reservation).where(reservation.c.id == claimed.id).values(ended_at=1.0))
    ledger.claim(wanted("a", "gpu-1"))


def test_after_a_restore_of_the_database_fences_are_newer_than_any_that_gateways_have_seen(tmp_path: Path) -> None:
    now = 1000.0
    engine = create_engine(f"sqlite:///{tmp_path / 'restored.db'}")
    metadata.create_all(engine)
    ledger = Ledger(partial(transaction, engine), clock=lambda: now)
    ledger.register({"gpu-0": 9})
    seen = [ledger.claim(wanted(name, "gpu-0")).shares[0].fence for name in "abc"]
    with engine.begin() as connection:
        # What a backup of a while ago had.
        connection.execute(update(device).values(fence=7, used=0))
    now += 1.0
    assert ledger.claim(wanted("d", "gpu-0")).shares[0].fence > max(seen)


def test_fences_grow_and_name_who_is_live(ledger: Ledger) -> None:
    first = ledger.claim(wanted("a", "gpu-0"))
    second = ledger.claim(wanted("b", "gpu-0"))
    assert second.shares[0].live == (first.shares[0].fence,)
    ledger.release(first.id, "success")
    third = ledger.claim(wanted("c", "gpu-0"))
    assert third.shares[0].fence > second.shares[0].fence
    assert third.shares[0].live == (second.shares[0].fence,)


def test_a_smaller_capacity_ends_nothing_and_admits_nothing(ledger: Ledger) -> None:
    ledger.claim(wanted("a", "gpu-0", sequences=2))
    ledger.register({"gpu-0": 1})
    with pytest.raises(ClaimLost):
        ledger.claim(wanted("b", "gpu-0"))
    assert len(ledger.live()) == 1


def test_pruning_forgets_only_what_ended_long_ago(ledger: Ledger) -> None:
    ended = ledger.claim(wanted("a", "gpu-0"))
    ledger.release(ended.id, "success")
    ledger.claim(wanted("b", "gpu-0"))
    assert ledger.prune(older_than_s=0.0) == 0
    later = Ledger(ledger._connect, clock=lambda: 200.0)
    assert later.prune(older_than_s=50.0) == 1
    assert [reservation.ti_id for reservation in later.of_runs([("d", "r")])] == ["b"]


def test_rival_claimers_never_book_more_than_there_is(ledger: Ledger) -> None:
    won: list[str] = []

    def claim_and_release(name: str) -> None:
        for number in range(6):
            try:
                claimed = ledger.claim(wanted(f"{name}-{number}", "gpu-1", "gpu-0"))
            except ClaimLost:
                continue
            won.append(claimed.id)
            if number % 2:
                ledger.release(claimed.id, "success")

    threads = [threading.Thread(target=claim_and_release, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won
    assert ledger.audit() == {}
    assert len(ledger.live()) <= 2


def test_a_dags_runs_are_in_the_order_of_their_first_reservations(ledger: Ledger) -> None:
    for name, run, at_s in (("a", "late", 9.0), ("b", "early", 1.0), ("c", "late", 0.5)):
        claimed = ledger.claim(replace(wanted(name, "gpu-0"), run_id=run, claimed_at=at_s))
        ledger.release(claimed.id, "success")
    assert ledger.run_ids("d") == ["late", "early"]
    assert ledger.run_ids("other") == []
