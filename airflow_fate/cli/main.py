"""What can be done from a shell? ``fate ...``."""

from __future__ import annotations

import typer

from airflow_fate import __version__
from airflow_fate.cli.bench import bench_app
from airflow_fate.cli.compile import compile_planner
from airflow_fate.cli.cost import cost
from airflow_fate.cli.demo import demo
from airflow_fate.cli.doctor import doctor
from airflow_fate.cli.explain import explain
from airflow_fate.cli.fleet import fleet_app
from airflow_fate.cli.record import record
from airflow_fate.cli.replay import replay
from airflow_fate.cli.show import EXIT_CODES, Commands
from airflow_fate.cli.simulate import simulate
from airflow_fate.cli.state import state

app = typer.Typer(
    name="fate",
    cls=Commands,
    help="FATE, a future-state-aware scheduler for LLM workflows, as an Airflow executor.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(fleet_app, name="fleet")
app.add_typer(bench_app, name="bench")
app.command()(demo)
app.command()(simulate)
app.command()(replay)
app.command()(record)
app.command()(doctor)
app.command()(state)
app.command()(explain)
app.command()(cost)
app.command("compile")(compile_planner)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(f"airflow-fate {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
