"""FATE's tables on each database that Airflow may have: the migrations, and what the ledger promises on them."""

from __future__ import annotations

import io
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from airflow import settings
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, insert, inspect, make_url, text

from airflow_fate.state import db_manager
from airflow_fate.state.db_manager import FateDBManager
from airflow_fate.state.history import History, TaskHistory
from airflow_fate.state.ledger import ClaimLost, Ledger, Reservation, transaction
from airflow_fate.state.tables import metadata
from tests.unit.state.test_ledger import wanted

CLAIMED_AT = 1_800_000_000.123456
Upgrade = Callable[[str], None]


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'fate.db'}"
    else:
        server, name = make_url(request.getfixturevalue(request.param)), f"fate_{secrets.token_hex(4)}"
        with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = server.set(database=name).render_as_string(hide_password=False)
    engine = create_engine(url)
    yield engine
    engine.dispose()


def alembic(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(settings, "engine", engine)
    monkeypatch.setattr(settings, "SQL_ALCHEMY_CONN", engine.url.render_as_string(hide_password=False))
    config = Config(FateDBManager.alembic_file)
    config.set_main_option("script_location", str(Path(db_manager.__file__).parent / "migrations"))
    return config


@pytest.fixture
def upgrade(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    config = alembic(engine, monkeypatch)
    return lambda revision: command.upgrade(config, revision)


@pytest.fixture
def ledger(engine: Engine, upgrade: Upgrade) -> Ledger:
    upgrade("heads")
    ledger = Ledger(partial(transaction, engine), clock=lambda: CLAIMED_AT)
    ledger.register({"gpu-0": 2})
    return ledger


def test_migrated_tables_are_those_that_the_code_knows(engine: Engine, upgrade: Upgrade) -> None:
    upgrade("heads")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": _fates})
        assert compare_metadata(context, metadata) == []


def _fates(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or name in metadata.tables


def test_a_try_holds_one_live_reservation_and_may_hold_another_later(ledger: Ledger) -> None:
    first = ledger.claim(wanted("a", "gpu-0"))
    with pytest.raises(ClaimLost, match="holds a live reservation already"):
        ledger.claim(wanted("a", "gpu-0"))
    assert ledger.audit() == {}
    assert ledger.release(first.id, "success")
    again = ledger.claim(wanted("a", "gpu-0"))
    assert ledger.release(again.id, "success")
    assert {reservation.id for reservation in ledger.of_runs([("d", "r")])} == {first.id, again.id}


def test_times_are_as_exact_as_they_were(ledger: Ledger) -> None:
    claimed = ledger.claim(replace(wanted("a", "gpu-0"), claimed_at=CLAIMED_AT, finish_at=CLAIMED_AT + 1e-3))
    (live,) = ledger.live()
    assert (live.claimed_at, live.finish_at) == (claimed.claimed_at, claimed.finish_at)


def test_names_that_differ_in_case_differ(ledger: Ledger) -> None:
    ledger.register({"GPU-0": 1})
    ledger.claim(wanted("a", "gpu-0"))
    ledger.claim(replace(wanted("A", "GPU-0"), dag_id="D"))
    assert len(ledger.of_runs([("d", "r")])) == 1


def test_what_tasks_needed_is_kept_by_task(engine: Engine, ledger: Ledger) -> None:
    history = History(partial(transaction, engine))
    for task, tokens in (("t", 1e9 + 0.25), ("T", 7.0), ("t", 1e9 + 0.5)):
        history.record("d", task, TaskHistory(1, tokens, 2.0, 3.0))
    histories = history.of_dags(["d"])
    assert {task: task_history.prompt_tokens for (_, task), task_history in histories.items()} == {
        "t": 1e9 + 0.5,
        "T": 7.0,
    }


def test_old_reservations_are_forgotten(engine: Engine, ledger: Ledger) -> None:
    old = ledger.claim(wanted("a", "gpu-0"))
    ledger.release(old.id, "success")
    ledger.claim(wanted("b", "gpu-0"))
    later = Ledger(partial(transaction, engine), clock=lambda: CLAIMED_AT + 100)
    assert (later.prune(50.0), [reservation.ti_id for reservation in later.of_runs([("d", "r")])]) == (1, ["b"])


def test_room_is_given_no_more_often_than_there_is_whoever_asks(ledger: Ledger) -> None:
    got: list[Reservation] = []

    def claim(name: str) -> None:
        with suppress(ClaimLost):
            got.append(ledger.claim(wanted(name, "gpu-0")))

    threads = [threading.Thread(target=claim, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 2
    assert ledger.audit() == {}


def insert_old(engine: Engine, live: str, over: str, ended_at: float, claimed_at: float = 1.0) -> None:
    """A reservation that lives and one that has ended, as an older release wrote them: with the columns it knew."""
    old = MetaData()
    old.reflect(engine)
    fixed = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1, "stage": "t", "model": "m"}
    fixed |= {"policy": "fate", "claimed_at": claimed_at, "prefill_end_at": claimed_at, "finish_at": claimed_at}
    fixed |= {"reason": "", "conversation": "", "chain": [], "evict": [], "cost": {}}
    share = {"device_id": "gpu-0", "place": "gpu-0", "node": "n", "sequences": 1, "prompts": 1, "fence": 5}
    with engine.begin() as connection:
        for ti_id, ended in ((live, None), (over, ended_at)):
            row = fixed | {"id": ti_id, "ti_id": ti_id, "ended_at": ended}
            # Not the reflected table: MariaDB tells of JSON as text.
            connection.execute(insert(metadata.tables["fate_reservation"]).values(row))
        connection.execute(old.tables["fate_device"].insert().values(id="gpu-0", capacity=9, used=1, fence=5))
        connection.execute(old.tables["fate_reservation_device"].insert().values(reservation_id=live, **share))


def test_live_reservations_of_an_older_release_stay_guarded(engine: Engine, upgrade: Upgrade) -> None:
    upgrade("0001")
    insert_old(engine, "live", "over", ended_at=60.0)
    upgrade("heads")
    ledger = Ledger(partial(transaction, engine))
    assert [reservation.id for reservation in ledger.live()] == ["live"]
    ledger.claim(wanted("over", "gpu-0"))
    with pytest.raises(ClaimLost):
        ledger.claim(wanted("live", "gpu-0"))
    assert ledger.release("live", "success")
    ledger.claim(wanted("live", "gpu-0"))
    assert ledger.audit() == {}


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
def test_tables_of_an_early_release_get_exact_times(engine: Engine, upgrade: Upgrade) -> None:
    """Those had times in single precision on MariaDB, to two minutes."""
    upgrade("0004")
    with engine.begin() as connection:
        for column in ("claimed_at", "prefill_end_at", "finish_at"):
            connection.execute(text(f"ALTER TABLE fate_reservation MODIFY {column} FLOAT NOT NULL"))
        connection.execute(text("ALTER TABLE fate_reservation MODIFY ended_at FLOAT"))
        connection.execute(text("ALTER TABLE fate_history MODIFY prompt_tokens FLOAT NOT NULL"))
    insert_old(engine, "old", "over", ended_at=CLAIMED_AT, claimed_at=CLAIMED_AT)
    upgrade("heads")
    ledger = Ledger(partial(transaction, engine), clock=lambda: CLAIMED_AT)
    assert ledger.release("old", "success")
    new = ledger.claim(replace(wanted("new", "gpu-0"), claimed_at=CLAIMED_AT, finish_at=CLAIMED_AT + 1e-3))
    by_id = {reservation.id: reservation for reservation in ledger.of_runs([("d", "r")])}
    assert (by_id[new.id].claimed_at, by_id[new.id].finish_at) == (CLAIMED_AT, CLAIMED_AT + 1e-3)
    assert by_id["old"].claimed_at == pytest.approx(CLAIMED_AT, abs=64), "as exact as it was kept"
    assert by_id["old"].ended_at == CLAIMED_AT
    history = History(partial(transaction, engine))
    history.record("d", "t", TaskHistory(1, 1e9 + 0.25, 2.0, 3.0))
    assert history.of_dags(["d"])["d", "t"].prompt_tokens == 1e9 + 0.25


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
def test_what_a_migration_that_failed_left_behind_is_no_obstacle(engine: Engine, upgrade: Upgrade) -> None:
    """MySQL can't take back what it made: releases whose migration failed there left tables and no version."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE fate_device (id VARCHAR(253) PRIMARY KEY)"))
    upgrade("heads")
    assert "fence" in {column["name"] for column in inspect(engine).get_columns("fate_device")}


def test_mysql_is_asked_for_nothing_that_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB, on which the others run, allows more."""
    said = io.StringIO()
    config = alembic(create_engine("mysql+pymysql://fate@127.0.0.1/airflow"), monkeypatch)
    config.output_buffer = said
    command.upgrade(config, "heads", sql=True)
    statements = said.getvalue()
    assert "CREATE TABLE fate_reservation (" in statements
    assert re.findall(r"\w+ (?:TEXT|JSON)[^,]* DEFAULT", statements) == []
    assert re.findall(r"\w+ FLOAT\b", statements) == [], "single precision"
    assert " WHERE ended_at IS NULL)" not in statements
