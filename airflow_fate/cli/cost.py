"""``fate cost``: what did DAGs, runs, tasks, tenants, models or days cost?"""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from airflow_fate.cli.airflow_settings import quiet
from airflow_fate.cli.show import WRONG_USE, console, fail, print_json, waiting

if TYPE_CHECKING:
    from airflow_fate.state.costs import CostReport

By = Literal["dag", "run", "task", "tenant", "day", "model"]
FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
USUAL_DAYS = 7


def cost(
    by: Annotated[By, typer.Option(help="What the costs are added up by.")] = "dag",
    since: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="From then on, in UTC; the last seven days by default.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=FORMATS, help="Until then, in UTC; now by default.")] = None,
    output: Annotated[Literal["table", "json", "csv"], typer.Option(help="Form of what is printed.")] = "table",
) -> None:
    """Show what GPU time was spent for, and what that costs."""
    from sqlalchemy.exc import DBAPIError

    from airflow_fate.executor.settings import SettingsError

    now = datetime.now(UTC)
    end = min(until.replace(tzinfo=UTC), now) if until else now
    begin = since.replace(tzinfo=UTC) if since else end - timedelta(days=USUAL_DAYS)
    if begin >= end:
        fail("cost", f"--since must lie before --until and before now, got {begin:%Y-%m-%dT%H:%M:%S}", WRONG_USE)
    try:
        with waiting("Reading the ledger"), quiet():
            from airflow_fate.executor.database import connect
            from airflow_fate.executor.settings import configured_prices
            from airflow_fate.state.costs import cost_report

            report = cost_report(connect, configured_prices(), by, begin.timestamp(), end.timestamp())
    except SettingsError as error:
        fail("cost", error, WRONG_USE)
    except DBAPIError as error:
        fail("cost", f"the ledger can't be read ({error.orig}); see `fate doctor`")
    if output == "json":
        print_json({"by": by, "since": begin.isoformat(), "until": end.isoformat()} | report.to_json())
    elif output == "csv":
        _write_csv(report)
    else:
        _show(report)


def _write_csv(report: CostReport) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow((*report.grouping.names, "gpu_s", "load_gpu_s", "money"))
    for key, amount in report.rows:
        writer.writerow((*key, amount.gpu_s, amount.load_s, amount.money))


def _show(report: CostReport) -> None:
    shown = console()
    table = Table(*report.grouping.names, show_footer=True)
    table.columns[0].footer = "all"
    for name, footer in (
        ("GPU time", _seconds(report.total.gpu_s)),
        ("of it loads", _seconds(report.total.load_s)),
        ("money", _money(report.total.money)),
    ):
        table.add_column(name, footer, justify="right")
    for key, amount in report.rows:
        table.add_row(*key, _seconds(amount.gpu_s), _seconds(amount.load_s), _money(amount.money))
    shown.print(table if report.rows else "Nobody held a device in this time.")
    fleet = report.fleet
    shown.print(
        f"The fleet's GPU time was {_seconds(fleet.fleet_s)}: {_seconds(fleet.busy_s)} busy, {_seconds(fleet.idle_s)} "
        "idle, which is nobody's.",
        soft_wrap=True,
    )


def _seconds(value: float) -> str:
    return f"{value:,.2f} s"


def _money(value: float | None) -> str:
    return "no price" if value is None else f"{value:,.4f}"
