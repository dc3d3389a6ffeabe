"""``fate doctor``: what is wrong here, and what can be done about it?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from airflow_fate.cli.configured import configured, quiet

STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red", "not checked": "dim"}


def doctor(
    output: Annotated[Literal["table", "json"], typer.Option(help="Form of what is printed.")] = "table",
) -> None:
    """Check versions, database, cluster, fleet and gateways of the configured Airflow; 1 where something fails."""
    from airflow_fate.executor.settings import SettingsError

    try:
        with quiet():
            from airflow_fate.doctor.examine import examine

            found = examine(configured())
    except SettingsError as error:
        typer.echo(f"fate doctor: {error}", err=True)
        raise typer.Exit(2) from None
    if output == "json":
        json.dump([asdict(one) for one in found], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        table = Table("check", "", "seen", "what to do")
        for one in found:
            table.add_row(one.check, f"[{STYLES[one.grade]}]{one.grade}[/]", one.seen, one.remedy)
        Console().print(table)
    raise typer.Exit(any(one.grade == "failure" for one in found))
