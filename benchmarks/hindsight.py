"""What is it worth to know the future? Makespans over those of ``heft``, as JSON: geometric means over the contended
scenarios and seeds.

``rule``: one list rule is looked for on the whole workload, with all arrivals known: the portfolio in turn with
neighbours of the best so far. One search plays true outputs, the other expected ones; what either finds is then played
on the true ones. ``fate``: FATE as it is, and told the true output of each stage as soon as its workflow has arrived.

    python benchmarks/hindsight.py --seeds 2 --tries 20 > benchmarks/results/hindsight/hindsight.json
"""

from __future__ import annotations

import argparse
import os
import time
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from airflow_fate.bench.pool import run_all
from airflow_fate.cli.show import print_json
from airflow_fate.physics.world.arrays import World, copy
from airflow_fate.physics.world.encode import encode
from airflow_fate.physics.world.ranks import rank
from airflow_fate.planner.baselines import BASELINES
from airflow_fate.planner.dispatch.rollout import rollout
from airflow_fate.planner.dispatch.rule import Rule
from airflow_fate.planner.forecast.profile import make_profile
from airflow_fate.planner.search.portfolio import GREEDY, PORTFOLIO, neighbour
from airflow_fate.planner.search.search import Search, Settings
from airflow_fate.simulator.suites import find_scenarios

_ALL = 1 << 60
_RULES = PORTFOLIO["makespan"]


class Task(NamedTuple):
    suite: str
    scenario: str
    seed: int
    tries: int


class Ratios(NamedTuple):
    """Makespans over ``heft``'s; ``rule_hoped``: what the search on expected outputs believed to gain over
    ``greedy``."""

    greedy: float
    rule_by_expectation: float
    rule_by_truth: float
    rule_hoped: float
    fate: float
    fate_knowing_outputs: float


class Player:
    """Plays rules from the beginning on one workload."""

    def __init__(self, begin: World) -> None:
        self._begin, self._profile = begin, make_profile(begin)

    def makespan_s(self, rule: Rule) -> float:
        world = copy(self._begin)
        rollout(world, self._profile, rule, _ALL)
        return float(world.workflows["done_s"].max())

    def best(self, tries: int, seed: int) -> Rule:
        rng = np.random.default_rng(seed)
        best = GREEDY["makespan"]
        least_s = self.makespan_s(best)
        for attempt in range(tries):
            candidate = _RULES[attempt // 2 % len(_RULES)] if attempt % 2 else neighbour(best, rng)
            if (value_s := self.makespan_s(candidate)) < least_s:
                best, least_s = candidate, value_s
        return best


def _of_fate(begin: World, seed: int, knows_outputs: bool) -> float:
    world = copy(begin)
    if knows_outputs:
        world.stages["expected_tokens"] = world.stages["output_tokens"]
        rank(world)
    Search(world, Settings("makespan", seed)).drive(world, time.perf_counter)
    return float(world.workflows["done_s"].max())


def find(task: Task) -> Ratios:
    (scenario,) = find_scenarios(task.suite, task.scenario)
    workload, fleet = scenario.build(task.seed)
    real = encode(workload.workflows, fleet, output_tokens=workload.output_tokens, log=False).world
    truth, expectation = Player(real), Player(encode(workload.workflows, fleet, log=False).world)
    heft_s = truth.makespan_s(BASELINES["heft"].rule)
    greedy, hoped = GREEDY["makespan"], expectation.best(task.tries, task.seed)
    return Ratios(
        truth.makespan_s(greedy) / heft_s,
        truth.makespan_s(hoped) / heft_s,
        truth.makespan_s(truth.best(task.tries, task.seed)) / heft_s,
        expectation.makespan_s(hoped) / expectation.makespan_s(greedy),
        _of_fate(real, task.seed, knows_outputs=False) / heft_s,
        _of_fate(real, task.seed, knows_outputs=True) / heft_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tries", type=int, default=40, help="rules played by each search")
    args = parser.parse_args()
    scenarios = [(suite, scenario) for suite in ("real-dag", "prefix-reuse") for scenario in find_scenarios(suite)]
    contended = [(suite, scenario.name) for suite, scenario in scenarios if scenario.contended]
    tasks = [Task(suite, name, seed, args.tries) for suite, name in contended for seed in range(args.seeds)]
    results = run_all(find, tasks, os.cpu_count() or 1)
    ratios: list[Ratios] = []
    for done in track(results, "Searching", total=len(tasks), console=Console(stderr=True)):
        if done.result is None:
            raise SystemExit(f"{done.task.scenario}, seed {done.task.seed}: {done.error}")
        ratios.append(done.result)
    means = np.exp(np.log(np.array(ratios)).mean(axis=0))
    means_by_name = {name: round(float(mean), 4) for name, mean in zip(Ratios._fields, means, strict=True)}
    print_json({"workloads": len(tasks), "tries": args.tries, **means_by_name})


if __name__ == "__main__":
    main()
