"""``fate compile``: the planner's machine code, once for each machine and version."""

from __future__ import annotations

import time

import typer


def compile_planner() -> None:
    """Compile the planner, so that no scheduler has to: a minute or two, or a second where that was done before."""
    from airflow_fate.planner.warm import warm

    began = time.monotonic()
    warm()
    typer.echo(f"The planner is ready after {time.monotonic() - began:.1f} s.")
