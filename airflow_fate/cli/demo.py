"""``fate demo``: the main job on a laptop, under FATE and under round robin, side by side."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from airflow_fate.demo.workload import RUNS_OF_EACH

if TYPE_CHECKING:
    from airflow_fate.demo.stack import AirflowStack

POLICIES = ("fate", "round_robin")
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for summary.json, the picture and all logs.")] = Path("demo-out"),
    runs: Annotated[int, typer.Option(min=1, help="Dag runs of each of the two DAGs.")] = RUNS_OF_EACH,
    policy: Annotated[list[str] | None, typer.Option(help="Policies to compare, first against last.")] = None,
    quiet: Annotated[bool, typer.Option(help="No table of all placements.")] = False,
) -> None:
    """Run a real Airflow with FATE on real llama.cpp engines, then the same runs under round robin, and compare."""
    from airflow_fate.demo.api import StackError

    # Not on a terminal, the reasons need room to be read.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    for number in _STOPPING:
        signal.signal(number, _stop)
    try:
        _demo(console, out.resolve(), runs, policy or list(POLICIES), quiet)
    except StackError as error:
        console.print(f"[red]{error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Stopped; everything that was started has been ended.")
        raise typer.Exit(130) from None


def _stop(number: int, frame: object) -> None:
    """Ctrl-C, or a supervisor's TERM: all that was started is ended, from which a second signal must not keep us."""
    for further in _STOPPING:
        signal.signal(further, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(143)


def _demo(console: Console, out: Path, runs_of_each: int, policies: list[str], quiet: bool) -> None:
    from airflow_fate.demo.gantt import draw
    from airflow_fate.demo.passes import LocalFleetProcess, PassResult, run_pass
    from airflow_fate.demo.stack import AirflowStack
    from airflow_fate.demo.view import PassView, comparison_table, placements_table
    from airflow_fate.demo.workload import DAG_IDS, DAGS, TASKS_OF_A_RUN, WARMUP_DAG_ID, triggers

    home = out / "airflow"
    shutil.rmtree(home, ignore_errors=True)
    results: dict[str, PassResult] = {}
    with ExitStack() as stop:
        folders = {name: out / f"fleet-{name}" for name in policies}
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        stack = stop.enter_context(AirflowStack(home, DAGS))
        with console.status("Making Airflow's database"):
            stack.migrate()
        for name in policies:
            fleet = LocalFleetProcess(folders[name])
            stop.callback(fleet.stop)
            with console.status(f"Starting three engines and Airflow with policy = {name}"):
                fleet.start(devices=3)
                stack.settings = {"fate__policy": name, "fate__fleet_dir": str(folders[name])}
                stack.start("scheduler")
                if not results:
                    _start_rest(stack, [WARMUP_DAG_ID, *DAG_IDS])
                stack.api.wait_run(WARMUP_DAG_ID, stack.api.trigger(WARMUP_DAG_ID))
            runs = triggers(name, runs_of_each)
            with PassView(console, name, stack, folders[name] / "pods", runs, len(runs) * TASKS_OF_A_RUN) as view:
                results[name] = run_pass(stack, runs, view.update)
            console.print(f"{name}: {results[name].wall_s:.1f} s")
            stack.kill("scheduler")
            fleet.stop()
    out.mkdir(parents=True, exist_ok=True)
    summary = out / "summary.json"
    summary.write_text(json.dumps({name: result.to_json() for name, result in results.items()}, indent=1))
    draw(results, out / "gantt.png")
    if not quiet:
        console.print(placements_table(results[policies[0]]))
    console.print(comparison_table(results))
    console.print(f"Written: {summary} and {out / 'gantt.png'}")


def _start_rest(stack: AirflowStack, dag_ids: list[str]) -> None:
    """Start what all passes share."""
    stack.start("api-server", "dag-processor")
    stack.wait_healthy()
    for dag_id in dag_ids:
        stack.api.wait_dag(dag_id)
    # The DAGs don't change from here on; parsing them again would only take time from the engines.
    stack.kill("dag-processor")
