"""``fate explain``: why did the tasks of a run run where they ran, and what really happened?"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from airflow_fate.cli.airflow_settings import quiet
from airflow_fate.cli.show import Output, console, fail, print_json, waiting

if TYPE_CHECKING:
    from airflow_fate.plugin.receipt import Receipt


def explain(
    dag_id: Annotated[str, typer.Argument(help="Id of the DAG.")],
    run_id: Annotated[str, typer.Argument(help="Id of the run.")],
    task_id: Annotated[str, typer.Argument(help="Only this task.")] = "",
    output: Output = "table",
) -> None:
    """Show the receipts of a run's placements: where, why, what was expected, and what was measured."""
    from sqlalchemy.exc import DBAPIError

    try:
        with waiting("Reading the ledger"), quiet():
            from airflow_fate.executor.database import connect
            from airflow_fate.plugin.receipt import receipts
            from airflow_fate.state.ledger import Ledger

            of_run = receipts(Ledger(connect).of_runs([(dag_id, run_id)]), task_id or None)
    except DBAPIError as error:
        fail("explain", f"the ledger can't be read ({error.orig}); see `fate doctor`")
    if not of_run:
        of_task = f" task {task_id!r} of" if task_id else ""
        fail(
            "explain",
            f"no placement of{of_task} run {run_id!r} of DAG {dag_id!r} is recorded: look whether the names are right; "
            "receipts are kept for as many days as [fate] keep_days says",
        )
    if output == "json":
        print_json({"receipts": [asdict(receipt) for receipt in of_run]})
    else:
        for receipt in of_run:
            _show(receipt)


def _show(receipt: Receipt) -> None:
    shown = console()
    task = receipt.task_id if receipt.map_index < 0 else f"{receipt.task_id}[{receipt.map_index}]"
    where = ", ".join(f"{held.device} ({held.prompts} prompts)" for held in receipt.devices)
    shown.print(f"{task}, try {receipt.try_number}: {receipt.model} on {where}, {receipt.outcome or 'running'}")
    shown.print(receipt.reason, soft_wrap=True)
    table = Table("part", "expected", "measured")
    for part in receipt.parts:
        table.add_row(part.name, _seconds(part.expected_s), _seconds(part.measured_s))
    held_s = None if receipt.ended_at is None else receipt.ended_at - receipt.claimed_at
    table.add_section()
    table.add_row("device held", _seconds(receipt.expected_end_at - receipt.claimed_at), _seconds(held_s))
    table.add_row("cost to others", _seconds(receipt.future_s), "")
    shown.print(table)
    if receipt.tokens:
        tokens = receipt.tokens
        counts = f"{tokens.cached:,} of {tokens.prompt:,} prompt tokens cached, {tokens.completion:,} answered"
        shown.print(f"{counts}, in {tokens.requests:,} requests")
    for device, kind in receipt.faults:
        shown.print(f"{device} could not serve it: {kind}")
    shown.print(f"claimed {_time(receipt.claimed_at)}, ended {_time(receipt.ended_at)}; decided by {receipt.policy}\n")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _time(unix_s: float | None) -> str:
    return "not yet" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat(" ", "seconds")
