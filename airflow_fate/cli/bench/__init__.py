"""``fate bench``: what is measured from a shell, a subcommand for each question."""

from __future__ import annotations

import typer

from airflow_fate.cli.bench.optimum import optimum
from airflow_fate.cli.bench.run import run
from airflow_fate.cli.bench.suite import ablations, export, suite
from airflow_fate.cli.bench.timings import executor, planner
from airflow_fate.cli.show import Commands

bench_app = typer.Typer(
    cls=Commands, help="Compare policies in the simulator, and time planner and executor.", no_args_is_help=True
)
for _command in (suite, run, ablations, optimum, export, planner, executor):
    bench_app.command()(_command)
