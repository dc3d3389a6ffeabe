"""``fate doctor``: what is wrong here, and what can be done about it?"""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

from airflow_fate.cli.airflow_settings import fate_settings, quiet
from airflow_fate.cli.show import FOUND_TROUBLE, WRONG_USE, Output, console, fail, print_json, waiting

STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red", "not checked": "dim"}


def doctor(
    output: Output = "table",
) -> None:
    """Check versions, database, cluster, fleet and gateways of the configured Airflow; 1 where something fails."""
    from airflow_fate.executor.settings import SettingsError

    try:
        with waiting("Looking at Airflow, the fleet and its gateways"), quiet():
            from airflow_fate.doctor.examine import examine

            findings = examine(fate_settings())
    except SettingsError as error:
        fail("doctor", error, WRONG_USE)
    if output == "json":
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table("check", "", "seen", "what to do")
        for finding in findings:
            table.add_row(finding.check, Text(finding.grade, STYLES[finding.grade]), finding.seen, finding.remedy)
        console().print(table)
    raise typer.Exit(FOUND_TROUBLE if any(finding.grade == "failure" for finding in findings) else 0)
