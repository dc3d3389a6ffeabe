"""How are many simulations run from a shell? One loop: each step is shown, each result is kept at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol, TypeVar

from airflow_fate.cli.show import Steps


class Titled(Protocol):
    """What progress names."""

    @property
    def title(self) -> str: ...


JobT = TypeVar("JobT", bound=Titled)
OutcomeT = TypeVar("OutcomeT")


def play(
    title: str,
    function: Callable[[JobT], OutcomeT],
    jobs: Sequence[JobT],
    processes: int | None,
    *,
    keep: Callable[[JobT, OutcomeT], object] = lambda job, outcome: None,
    done: int = 0,
) -> list[tuple[JobT, OutcomeT]]:
    """Run the jobs in processes and say how far they are. A failure is named, and the others go on.

    :param processes: None for one on each CPU.
    :param keep: called with each outcome as it comes, so that an interrupt loses none.
    :param done: how many more jobs there are, which need not run again.
    :return: the jobs that did not fail, with their outcomes, in the order of the jobs.
    """
    from airflow_fate.bench.pool import run_all

    outcomes: dict[int, OutcomeT] = {}
    runs = run_all(function, jobs, processes or os.cpu_count() or 1)
    with Steps(title, done + len(jobs), done) as steps, closing(runs):
        for run in runs:
            if run.result is None:
                steps.tell(f"{run.task.title} failed: {run.error}")
            else:
                keep(run.task, run.result)
                outcomes[id(run.task)] = run.result
            steps.step(run.task.title)
    return [(job, outcomes[id(job)]) for job in jobs if id(job) in outcomes]
