"""``fate explain``: the receipts of a run, from the tables, also long after it."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from airflow_fate.cli.main import app
from airflow_fate.executor import database
from airflow_fate.plugin.receipt import receipt_of
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.tables import metadata
from tests.unit.plugin.builders import facts, reservation


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """With two placements of one run, of which the first has ended."""
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    metadata.create_all(engine)
    connect = partial(transaction, engine)
    monkeypatch.setattr(database, "connect", connect)
    ledger = Ledger(connect, clock=lambda: 120.0)
    ledger.register({"gpu-0": 2})
    ledger.claim(reservation(reason="gpu-0: see [fate] policy"))
    ledger.claim(reservation(id="r2", ti_id="t2", task_id="other", map_index=3, claimed_at=101.0))
    ledger.release("r1", "success")
    ledger.record_facts("r1", [facts()])
    return ledger


def test_a_run_is_explained_placement_by_placement(ledger: Ledger) -> None:
    done = CliRunner().invoke(app, ["explain", "d", "r"])
    assert done.exit_code == 0
    first, other = done.stdout.split("other[3], try 1: m on gpu-0 (1 prompts), running")
    assert "gpu-0: see [fate] policy" in first
    for line in (("load", "2.00 s", "1.50 s"), ("device held", "10.50 s", "20.00 s"), ("cost to others", "-0.25 s")):
        assert any(all(word in said for word in line) for said in first.splitlines()), line
    assert "60 of 100 prompt tokens cached, 10 answered" in first
    assert "ended not yet" in other


def test_as_json_it_says_what_the_page_is_told(ledger: Ledger) -> None:
    done = CliRunner().invoke(app, ["explain", "d", "r", "ask", "--output", "json"])
    (receipt,) = json.loads(done.stdout)["receipts"]
    (row, _) = ledger.of_runs([("d", "r")])
    assert receipt == json.loads(json.dumps(asdict(receipt_of(row))))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["d", "nowhere"], "no placement of run 'nowhere' of DAG 'd' is recorded"),
        (["d", "r", "nobody"], "no placement of task 'nobody' of run 'r' of DAG 'd' is recorded"),
    ],
)
def test_what_is_not_recorded_is_said_in_a_sentence(ledger: Ledger, asked: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["explain", *asked])
    assert (done.exit_code, done.stdout) == (1, "")
    assert says in done.stderr
