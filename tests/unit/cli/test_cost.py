"""``fate cost``: by DAG, tenant or day, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from airflow_fate.cli.main import app
from airflow_fate.executor import database
from airflow_fate.state.ledger import Ledger, transaction
from airflow_fate.state.tables import metadata
from tests.unit.plugin.builders import reservation

DAY = 1_000 * 86_400.0
"""1972-09-27"""
RANGE = ["--since", "1972-09-27", "--until", "1972-09-28T00:00:00"]


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two DAGs that held devices for 30 and 10 s."""
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    metadata.create_all(engine)
    connect = partial(transaction, engine)
    monkeypatch.setattr(database, "connect", connect)
    ledger = Ledger(connect, clock=lambda: DAY + 30)
    ledger.register({"gpu-0": 2, "gpu-1": 2})
    ledger.claim(reservation(claimed_at=DAY, dag_id="dear", tenant="finance"))
    other = reservation(id="r2", ti_id="t2", dag_id="cheap [one]", claimed_at=DAY + 10)
    ledger.claim(other)
    for name in ("r1", "r2"):
        ledger.release(name, "success")


def run(*arguments: str, price: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["cost", *arguments], env={"AIRFLOW__FATE__PRICE_PER_GPU_HOUR": price})
    return done.exit_code, done.stdout, done.stderr


def test_a_table_has_the_dearest_first_and_what_was_nobodys() -> None:
    code, said, _ = run(*RANGE, price="3600")
    assert code == 0
    rows = [line.replace("│", "").split() for line in said.splitlines() if "│" in line]
    assert rows == [
        ["dear", "20.00", "s", "0.00", "s", "20.0000"],
        ["cheap", "[one]", "10.00", "s", "0.00", "s", "10.0000"],
        ["all", "30.00", "s", "0.00", "s", "30.0000"],
    ]
    assert "The fleet's GPU time was 30.00 s: 30.00 s busy, 0.00 s idle" in said


def test_json_is_one_document() -> None:
    code, said, _ = run(*RANGE, "--by", "tenant", "--output", "json")
    document = json.loads(said)
    assert (code, document["by"], document["since"]) == (0, "tenant", "1972-09-27T00:00:00+00:00")
    assert document["rows"][0] == {"tenant": "finance", "gpu_s": 20.0, "load_gpu_s": 0.0, "money": None}
    assert document["total"]["gpu_s"] == document["fleet"]["busy_gpu_s"] == 30.0


def test_csv_has_a_head_and_a_line_for_each_row() -> None:
    code, said, _ = run(*RANGE, "--by", "day", "--output", "csv", price='{"none": 1}')
    assert (code, list(csv.reader(io.StringIO(said)))) == (
        0,
        [["day", "gpu_s", "load_gpu_s", "money"], ["1972-09-27", "30.0", "0.0", ""]],
    )


def test_a_time_without_holds_says_so() -> None:
    code, said, _ = run()
    assert code == 0
    assert "Nobody held a device in this time." in said


@pytest.mark.parametrize(
    ("arguments", "price", "says"),
    [
        (["--since", "1972-09-28", "--until", "1972-09-27"], "", "--since must lie before --until"),
        (["--since", "9972-09-28"], "", "--since must lie before --until and before now"),
        (RANGE, "cheap", "[fate] price_per_gpu_hour must be a number >= 0"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(arguments: list[str], price: str, says: str) -> None:
    code, said, error = run(*arguments, price=price)
    assert (code, said) == (2, "")
    assert says in error
