"""``python -m tests.faults.simulation``: ``--schedules N`` plays the seeds 0 to N-1; ``--seed S`` tells one's story."""

from __future__ import annotations

import argparse
import logging
import sys
import time

import tests.conftest  # noqa: F401  It sets Airflow's folder, which must be before Airflow is imported.

SAID_EVERY_S = 5.0


def main() -> int:
    """:return: 0 where no promise was broken."""
    from tests.faults.simulation import campaign as c

    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one and print its story")
    parser.add_argument("--steps", type=int, default=c.STEPS, help="how many, with --seed")
    parser.add_argument("--shrink", action="store_true", help="with --seed: print the shortest that fails alike")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed of --schedules")
    parser.add_argument("--stop", action="store_true", help="with --schedules: end with the first that fails")
    arguments = parser.parse_args()
    if arguments.seed is None:
        return many(range(arguments.first, arguments.first + arguments.schedules), arguments.stop)
    return one(arguments.seed, arguments.steps, arguments.shrink)


def one(seed: int, steps: int, shrink: bool) -> int:
    from tests.faults.simulation import campaign as c
    from tests.faults.simulation.schedule import drawn

    logging.disable(logging.CRITICAL)
    schedule = drawn(seed, steps)
    history, broken = c.played(schedule)
    if broken and shrink:
        schedule = c.shortest(schedule)
        history, broken = c.played(schedule)
        print(*schedule.steps, sep="\n")
    print(history)
    print(*(broken or ["no promise is broken"]), sep="\n")
    return bool(broken)


def many(seeds: range, stop: bool) -> int:
    from tests.faults.simulation.campaign import campaign

    began_s = said_s = time.monotonic()
    failed = []
    for count, (seed, broken) in enumerate(campaign(seeds), 1):
        if broken:
            failed.append(seed)
            print(f"seed {seed}: {'; '.join(broken)}", flush=True)
            if stop:
                break
        if time.monotonic() - said_s > SAID_EVERY_S or count == len(seeds):
            said_s = time.monotonic()
            print(f"{count} of {len(seeds)} schedules in {said_s - began_s:.0f} s, {len(failed)} failed", flush=True)
    for seed in failed[:3]:
        print(f"its story: python -m tests.faults.simulation --seed {seed} --shrink")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
