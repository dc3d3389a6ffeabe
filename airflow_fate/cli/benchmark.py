"""``fate bench``: policies side by side, on a workload of one's own or on the standard suites."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from airflow_fate.cli.show import FOUND_TROUBLE, INTERRUPTED, WRONG_USE, Output, fail

DEFAULT_OUT = Path("bench-out")


def bench(
    workload: Annotated[Path | None, typer.Option(help="Workload file; docs/benchmark.md has its format.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file for it: fleet.yaml, fleet.json or F.json.")] = None,
    suite: Annotated[str | None, typer.Option(help="Instead of files: real-dag, prefix-reuse, small or all.")] = None,
    scenario: Annotated[list[str] | None, typer.Option(help="Only this of the suite; may be repeated.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="May be repeated. For a suite, default all.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="makespan, mean, p95 or balanced. Default each in turn.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed; of a suite, the first one.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds of each scenario.")] = 5,
    ablations: Annotated[bool, typer.Option("--ablations", help="Take FATE apart instead.")] = False,
    optimum: Annotated[
        bool, typer.Option("--optimum", help="Compare with the optimum of the instances of --suite small instead.")
    ] = False,
    limit: Annotated[float, typer.Option(min=1, help="Seconds for each optimum.")] = 60,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; what a suite has there is not run again.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Only write the scenarios' files, into this folder.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default one for each CPU.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all anew.")] = False,
    output: Output = "table",
) -> None:
    """Compare policies in the simulator: on a workload and a fleet from files, or on the standard suites."""
    from airflow_fate.simulator.checks import FileError

    # A supervisor's TERM must end the processes that we started just as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if workload is not None or fleet is not None:
            if workload is None or fleet is None:
                raise UsageError("--workload and --fleet belong together; one of them is missing")
            if suite or scenario or ablations or optimum or export:
                raise UsageError("--workload and --fleet can't be combined with a suite's options")
            from airflow_fate.cli.benchfiles import FileRequest, bench_files

            failed = bench_files(FileRequest(workload, fleet, policy or [], objective, seed, out, jobs, output))
        elif optimum:
            if ablations or export:
                raise UsageError("--optimum can't be combined with --ablations or --export")
            from airflow_fate.cli.optimum import OptimumRequest, bench_optimum

            failed = bench_optimum(
                OptimumRequest(
                    suite, scenario or [], policy, range(seed, seed + seeds), limit, out or DEFAULT_OUT, jobs, output
                )
            )
        elif suite is not None or ablations:
            from airflow_fate.cli.benchsuite import SuiteRequest, bench_suite

            named, folder = scenario or [], out or DEFAULT_OUT
            request = SuiteRequest(
                suite or "all", named, policy, objective, seed, seeds, ablations, folder, jobs, fresh
            )
            failed = bench_suite(request, export, output)
        else:
            raise UsageError("either --workload W.json --fleet F.json, or --suite real-dag|prefix-reuse|small|all")
    except (FileError, UsageError) as error:
        fail("bench", error, WRONG_USE)
    except OSError as error:
        fail("bench", f"{error.filename or ''}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("bench", "interrupted; what had been finished is whole, what had not is not there", INTERRUPTED)
    if failed:
        raise typer.Exit(FOUND_TROUBLE)


class UsageError(ValueError):
    """Arguments that can't be used; says which are known."""


def check_names(what: str, names: list[str], known: tuple[str, ...]) -> None:
    """:raises UsageError: listing the known names."""
    for name in names:
        if name not in known:
            raise UsageError(f"no {what} {name!r}; there are {', '.join(known)}")
