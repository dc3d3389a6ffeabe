"""``fate demo``: the main job on a laptop, under FATE and under round robin, side by side."""

from __future__ import annotations

import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_fate.atomic import write_json
from airflow_fate.cli.extras import MissingExtra, require
from airflow_fate.cli.show import INTERRUPTED, WRONG_USE, Output, console, fail, print_json, waiting
from airflow_fate.cli.usage import UsageError, check_names
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
    output: Output = "table",
) -> None:
    """Run a real Airflow with FATE on real llama.cpp engines, then the same runs under round robin, and compare."""
    try:
        _check(policy or [])
    except UsageError as error:
        fail("demo", error, WRONG_USE)
    except MissingExtra as error:
        fail("demo", error)
    from airflow_fate.demo.api import StackError

    for number in _STOPPING:
        signal.signal(number, _stop)
    try:
        _compile()
        _demo(out.resolve(), runs, policy or list(POLICIES), quiet, output)
    except StackError as error:
        fail("demo", error)
    except KeyboardInterrupt:
        fail("demo", "stopped; everything that was started has been ended", INTERRUPTED)


def _check(policies: list[str]) -> None:
    """:raises MissingExtra, UsageError: before anything is started."""
    from airflow_fate.state.fleetfile import BUILT_IN_MODEL, built_in_model

    require("local", "the demo, whose engines are llama.cpp's,")
    require("bench", "the demo's picture")
    try:
        built_in_model()
    except FileNotFoundError as error:
        raise MissingExtra(f"the demo's model {BUILT_IN_MODEL!r} {error}") from None
    if policies:
        from airflow_fate.planner.registry import PLANNING

        check_names("policy", policies, PLANNING)


def _compile() -> None:
    """A scheduler would do it beside the first pass, which then would not be comparable."""
    from airflow_fate.physics.jit.compiled import is_compiled

    if not is_compiled():
        with waiting("Compiling the planner, once for this machine: a minute or two"):
            from airflow_fate.planner.warm import warm

            warm()


def _stop(number: int, frame: object) -> None:
    """Ctrl-C, or a supervisor's TERM: all that was started is ended, from which a second signal must not keep us."""
    for further in _STOPPING:
        signal.signal(further, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(143)


def _demo(out: Path, runs_of_each: int, policies: list[str], quiet: bool, output: str) -> None:
    from airflow_fate.demo.gantt import draw
    from airflow_fate.demo.passes import LocalFleetProcess, PassResult, run_pass
    from airflow_fate.demo.stack import AirflowStack
    from airflow_fate.demo.view import PassView, comparison_table, placements_table
    from airflow_fate.demo.workload import DAG_IDS, DAGS, TASKS_OF_A_RUN, WARMUP_DAG_ID, triggers

    progress = console(stderr=True)
    home = out / "airflow"
    shutil.rmtree(home, ignore_errors=True)
    results: dict[str, PassResult] = {}
    with ExitStack() as stop:
        folders = {name: out / f"fleet-{name}" for name in policies}
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        stack = stop.enter_context(AirflowStack(home, DAGS))
        with waiting("Making Airflow's database"):
            stack.migrate()
        for name in policies:
            fleet = LocalFleetProcess(folders[name])
            stop.callback(fleet.stop)
            with waiting(f"{name}: starting three engines"):
                fleet.start(devices=3)
            stack.settings = {"fate__policy": name, "fate__fleet_dir": str(folders[name])}
            with waiting(f"{name}: starting Airflow"):
                stack.start("scheduler")
                if not results:
                    _start_rest(stack, [WARMUP_DAG_ID, *DAG_IDS])
            with waiting(f"{name}: waiting for the scheduler's first task, a warm-up"):
                stack.api.wait_run(WARMUP_DAG_ID, stack.api.trigger(WARMUP_DAG_ID))
            runs = triggers(name, runs_of_each)
            with PassView(progress, name, stack, folders[name] / "pods", runs, len(runs) * TASKS_OF_A_RUN) as view:
                results[name] = run_pass(stack, runs, view.update)
            progress.print(f"{name}: {results[name].wall_s:.1f} s")
            with waiting(f"{name}: ending the scheduler and the engines"):
                stack.kill("scheduler")
                fleet.stop()
    summary = out / "summary.json"
    document = {name: result.to_json() for name, result in results.items()}
    write_json(summary, document)
    draw(results, out / "gantt.png")
    if output == "json":
        print_json(document)
        return
    shown = console()
    if not quiet:
        shown.print(placements_table(results[policies[0]]))
    shown.print(comparison_table(results))
    shown.print(f"Written: {summary} and {out / 'gantt.png'}")


def _start_rest(stack: AirflowStack, dag_ids: list[str]) -> None:
    """Start what all passes share."""
    stack.start("api-server", "dag-processor")
    stack.wait_healthy()
    for dag_id in dag_ids:
        stack.api.wait_dag(dag_id)
    # The DAGs don't change from here on; parsing them again would only take time from the engines.
    stack.kill("dag-processor")
