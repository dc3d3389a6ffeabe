"""``fate bench planner`` and ``fate bench executor``: what planning takes, and what starting a task takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from airflow_fate.cli.show import Output, console, print_json, waiting


def planner(
    devices: Annotated[list[int] | None, typer.Option(help="Fleet sizes.")] = None,
    ready: Annotated[list[int] | None, typer.Option(help="Ready stages.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Plans for each size.")] = 20,
    searches: Annotated[int, typer.Option(min=1, help="Searches one after another.")] = 1000,
    output: Output = "json",
) -> None:
    """Time plans over random frontiers, and searches for better rules within their limit."""
    with waiting("Timing plans and searches"):
        from airflow_fate.bench.planner import measure

        result = measure(devices or [16, 64, 200], ready or [10, 100, 1000], repeats, searches)
    _print(result, output)


def executor(
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of the chain that is timed under each executor.")] = 30,
    cycles: Annotated[int, typer.Option(min=1, help="Plans of the large frontier.")] = 100,
    output: Output = "json",
) -> None:
    """Time from scheduled to running against plain LocalExecutor, and planning in the heartbeat at 1,000 x 200."""
    with waiting("Timing starts of tasks"):
        from airflow_fate.bench.executor import measure_heartbeat, measure_start

        start = measure_start(tasks)
    with waiting("Timing heartbeats"):
        heartbeat = measure_heartbeat(cycles)
    _print({"start": start, "heartbeat": heartbeat}, output)


def _print(result: Mapping[str, Any], output: str) -> None:
    if output == "json":
        print_json(result)
        return
    table = Table("what", "value")
    for name, value in _leaves(result):
        table.add_row(name, str(value))
    console().print(table)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Single values, by the names that lead to them."""
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
