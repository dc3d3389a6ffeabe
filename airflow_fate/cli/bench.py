"""``fate bench-planner`` and ``fate bench-executor``: timings that stay, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer


def bench_planner(
    devices: Annotated[list[int] | None, typer.Option(help="Fleet sizes.")] = None,
    ready: Annotated[list[int] | None, typer.Option(help="Ready stages.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Plans for each size.")] = 20,
    searches: Annotated[int, typer.Option(min=1, help="Searches one after another.")] = 1000,
) -> None:
    """Time plans over random frontiers, and searches for better rules within their limit."""
    from airflow_fate.simulator.planner_bench import run

    _print(run(devices or [16, 64, 200], ready or [10, 100, 1000], repeats, searches))


def bench_executor(
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of the chain that is timed under each executor.")] = 30,
    cycles: Annotated[int, typer.Option(min=1, help="Plans of the large frontier.")] = 100,
) -> None:
    """Time from scheduled to running against plain LocalExecutor, and planning in the heartbeat at 1,000 x 200."""
    from airflow_fate.demo.overhead import measure_heartbeat, measure_start

    _print({"start": measure_start(tasks), "heartbeat": measure_heartbeat(cycles)})


def _print(result: Any) -> None:
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


bench_app: dict[str, Callable[..., None]] = {"bench-planner": bench_planner, "bench-executor": bench_executor}
