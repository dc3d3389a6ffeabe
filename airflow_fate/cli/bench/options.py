"""What do the subcommands of ``fate bench`` share? Options, and how their failures are named."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_fate.cli.show import INTERRUPTED, WRONG_USE, fail
from airflow_fate.cli.usage import UsageError, check_names

if TYPE_CHECKING:
    from airflow_fate.simulator.suites import Scenario

DEFAULT_OUT = Path("bench-out")

Suite = Annotated[str, typer.Argument(help="real-dag, prefix-reuse, small, or all: the first two.")]
Scenarios = Annotated[list[str] | None, typer.Option("--scenario", help="Only this of the suite. May be repeated.")]
Policies = Annotated[list[str] | None, typer.Option("--policy", help="May be repeated. Default all.")]
Objective = Annotated[str | None, typer.Option(help="makespan, mean, p95 or balanced.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", help="A=B: the fleet's model B stands for the workload's A. May be repeated."),
]
Seed = Annotated[int, typer.Option(min=0, help="The first seed.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds of each scenario.")]
Out = Annotated[Path, typer.Option(help="Folder for the results. What is there is not run again.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; default one for each CPU.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run all anew.")]


@contextmanager
def failures_explained(command: str) -> Iterator[None]:
    """Name what goes wrong inside in one sentence, and end with its exit code.

    :param command: ``bench suite`` and the like.
    """
    from airflow_fate.simulator.files import FileError

    # A supervisor's TERM must end the processes that we started just as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except (FileError, UsageError) as error:
        fail(command, error, WRONG_USE)
    except OSError as error:
        fail(command, f"{error.filename or ''}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail(command, "interrupted; what had been finished is whole, what had not is not there", INTERRUPTED)


def chosen_scenarios(suite: str, names: list[str] | None) -> tuple[Scenario, ...]:
    """:raises UsageError: listing the known suites or scenarios."""
    from airflow_fate.bench.suite.plan import chosen

    try:
        return chosen(suite, names or [])
    except ValueError as error:
        raise UsageError(str(error)) from error


def chosen_policies(names: list[str] | None) -> list[str]:
    """The policies that are named, each once; all, if none is.

    :raises UsageError: listing the known ones.
    """
    from airflow_fate.planner.registry import NAMES

    check_names("policy", names or [], NAMES)
    return list(dict.fromkeys(names or NAMES))


def model_map(pairs: list[str] | None) -> dict[str, str]:
    """Model of the workload -> the fleet's that stands for it.

    :raises UsageError: on what is no ``A=B``.
    """
    models = {}
    for pair in ",".join(pairs or ()).split(","):
        theirs, _, ours = pair.partition("=")
        if pair and not (theirs and ours):
            raise UsageError(f"--models must be A=B, got {pair!r}")
        if pair:
            models[theirs] = ours
    return models


def chosen_objective(objective: str | None) -> str:
    """The objective that is named, or the one for policies that can't use any.

    :raises UsageError: listing the known ones.
    """
    from airflow_fate.planner.objectives import DEFAULT, OBJECTIVES

    check_names("objective", [objective] if objective else [], OBJECTIVES)
    return objective or DEFAULT


def seed_range(seed: int, seeds: int) -> Sequence[int]:
    return range(seed, seed + seeds)
