"""Do the standard scenarios still run as they did? Digests of their event logs, against those that are kept here.

Every scenario is simulated under every policy, FATE under each objective. A change that shall alter no decision leaves
all digests as they are; one that shall is followed by ``--write``.

    python benchmarks/event_logs.py                      # against benchmarks/results/event-logs.json
    python benchmarks/event_logs.py --beside ../before   # against another checkout, in turns, with times

In turns means: each scenario runs in both checkouts one after the other, in a process each, so that a noisy machine is
noisy for both. Times are seconds of CPU in all of the simulation, planning included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from math import exp, log
from pathlib import Path
from typing import IO, Any, NamedTuple

_ROOT = Path(__file__).resolve().parents[1]
_KEPT = _ROOT / "benchmarks" / "results" / "event-logs.json"
_LEAST_S = 0.2
"""Shorter simulations say nothing about time."""


class Job(NamedTuple):
    """One simulation."""

    suite: str
    scenario: str
    policy: str
    objective: str

    @property
    def name(self) -> str:
        return "/".join(self)


class Answer(NamedTuple):
    """What came of it."""

    digest: str
    cpu_s: float


def jobs(suites: Sequence[str], policies: Sequence[str]) -> Iterator[Job]:
    from airflow_fate.simulator.suites import SUITES

    for suite in suites or SUITES:
        for scenario in SUITES[suite]:
            for policy in policies:
                for objective in ("makespan", "mean", "p95", "balanced") if policy == "fate" else ("balanced",):
                    yield Job(suite, scenario.name, policy, objective)


def run(job: Job, seed: int) -> Answer:
    from airflow_fate.simulator.simulate import simulate
    from airflow_fate.simulator.suites import find_scenarios

    (scenario,) = find_scenarios(job.suite, job.scenario)
    workload, fleet = scenario.build(seed)
    began_s = time.process_time()
    ended = simulate(workload, fleet, job.policy, objective=job.objective, seed=seed)
    cpu_s = time.process_time() - began_s
    text = "\n".join(json.dumps(event, sort_keys=True) for event in ended.events)
    return Answer(blake2b(text.encode(), digest_size=12).hexdigest(), cpu_s)


def serve(seed: int) -> None:
    """Answer jobs, a line of JSON each, until there are no more."""
    run(Job("small", "small-mixed", "fate", "balanced"), seed)
    for line in sys.stdin:
        print(json.dumps(run(Job(*json.loads(line)), seed)), flush=True)


@contextmanager
def checkout(folder: Path, seed: int) -> Iterator[Worker]:
    """A process that simulates with the sources of a folder."""
    if not (folder / "airflow_fate").is_dir():
        raise SystemExit(f"--beside {folder}: no folder airflow_fate lies there; it must be a checkout of this project")
    command = [sys.executable, __file__, "--serve", "--seed", str(seed)]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Worker(process.stdin, process.stdout)
        finally:
            process.stdin.close()


class Worker(NamedTuple):
    jobs: IO[str]
    answers: IO[str]

    def ask(self, job: Job) -> Answer:
        self.jobs.write(json.dumps(job) + "\n")
        self.jobs.flush()
        if not (line := self.answers.readline()):
            raise SystemExit(f"{job.name}: the simulation died")
        return Answer(*json.loads(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", help="only this; may be repeated; default all")
    parser.add_argument("--policy", action="append", help="only this; may be repeated; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", type=Path, help="another checkout of this project to compare with")
    parser.add_argument("--write", action="store_true", help="keep the digests instead of comparing them")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        # What an older checkout lacks is not asked for.
        serve(asked.seed)
        return

    from rich.progress import track

    from airflow_fate.planner.registry import NAMES

    if asked.seed and not asked.beside:
        raise SystemExit("--seed: digests are kept of seed 0 alone; another one needs --beside")
    wanted = list(jobs(asked.suite or (), asked.policy or NAMES))
    if asked.beside:
        code = _beside(track(wanted, "Simulations"), asked.beside.resolve(), asked.seed)
    else:
        with checkout(_ROOT, asked.seed) as here:
            digests = {job.name: here.ask(job).digest for job in track(wanted, "Simulations")}
        code = _keep(digests) if asked.write else _compare(digests)
    sys.exit(code)


def _keep(digests: dict[str, str]) -> int:
    known: dict[str, Any] = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
    _KEPT.write_text(json.dumps(dict(sorted((known | digests).items())), indent=1) + "\n")
    print(f"{len(digests)} digests kept in {_KEPT.relative_to(_ROOT)}")
    return 0


def _compare(digests: dict[str, str]) -> int:
    known = json.loads(_KEPT.read_text())
    other = [name for name, digest in digests.items() if known.get(name) != digest]
    print("\n".join([*other, f"{len(digests) - len(other)} of {len(digests)} event logs are as they were"]))
    return 1 if other else 0


def _beside(wanted: Iterator[Job] | Any, folder: Path, seed: int) -> int:
    ratios: dict[str, list[float]] = {}
    other = []
    with checkout(_ROOT, seed) as here, checkout(folder, seed) as beside:
        for number, job in enumerate(wanted):
            first, second = (here, beside) if number % 2 else (beside, here)
            answers = (first.ask(job), second.ask(job))
            mine, theirs = answers if number % 2 else answers[::-1]
            if mine.digest != theirs.digest:
                other.append(job.name)
            if theirs.cpu_s >= _LEAST_S:
                ratios.setdefault(job.policy, []).append(mine.cpu_s / theirs.cpu_s)
    for policy, values in ratios.items():
        mean = exp(sum(map(log, values)) / len(values))
        print(f"{policy}: {mean:.3f} of the other's time (geometric mean of {len(values)})")
    print("\n".join([*other, f"{len(other)} event logs differ from the other checkout's"]))
    return 1 if other else 0


if __name__ == "__main__":
    main()
