"""How far is each policy from the best that anybody could do? Small instances, beside their optima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from airflow_fate.planner.objectives import DEFAULT
from airflow_fate.planner.registry import FATE
from airflow_fate.simulator.suites import Scenario


@dataclass(frozen=True)
class GapJob:
    """An instance, and how long its optimum may be looked for."""

    suite: str
    scenario: str
    seed: int
    policies: tuple[str, ...]
    limit_s: float

    @property
    def title(self) -> str:
        """As progress names it."""
        return f"{self.scenario} seed {self.seed}"


@dataclass(frozen=True)
class Gaps:
    """What was found.

    :param status: of the optimum; ``FEASIBLE`` where it is known only to lie between bound and optimum.
    :param makespans_s: by policy.
    """

    scenario: str
    seed: int
    optimum_s: float
    bound_s: float
    status: str
    makespans_s: Mapping[str, float]

    def over_optimum(self, policy: str) -> float:
        """How much longer the policy takes than the best schedule that was found."""
        return self.makespans_s[policy] / self.optimum_s - 1

    def over_bound(self, policy: str) -> float:
        """How much longer it takes than what nothing can beat; the gap to the optimum is between the two."""
        return self.makespans_s[policy] / self.bound_s - 1


def gap_jobs(
    scenarios: Sequence[Scenario], seeds: Sequence[int], policies: Sequence[str], limit_s: float
) -> list[GapJob]:
    """Every instance once, with all policies."""
    return [
        GapJob(scenario.suite, scenario.name, seed, tuple(dict.fromkeys(policies)), limit_s)
        for seed in seeds
        for scenario in scenarios
    ]


def execute_gaps(job: GapJob) -> Gaps:
    """Find the optimum, and simulate the policies."""
    from airflow_fate.bench.optimum import find_optimum
    from airflow_fate.simulator.simulate import simulate
    from airflow_fate.simulator.suites import find_scenarios

    (scenario,) = find_scenarios(job.suite, job.scenario)
    workload, fleet = scenario.build(job.seed)
    makespans_s = {
        policy: simulate(
            workload, fleet, policy, objective="makespan" if policy == FATE else DEFAULT, seed=job.seed
        ).summary["makespan_s"]
        for policy in job.policies
    }
    optimum = find_optimum(workload, fleet, job.limit_s)
    return Gaps(job.scenario, job.seed, optimum.makespan_s, optimum.bound_s, optimum.status, makespans_s)


def medians(gaps: Sequence[Gaps]) -> list[tuple[str, float, float]]:
    """(policy, its median gap to the optimum, the same to the bound), the nearest first."""
    policies = gaps[0].makespans_s if gaps else {}
    gap_medians = [
        (name, median(each.over_optimum(name) for each in gaps), median(each.over_bound(name) for each in gaps))
        for name in policies
    ]
    return sorted(gap_medians, key=lambda each: each[1])


def document(gaps: Sequence[Gaps]) -> dict[str, Any]:
    """What ``optimum.json`` says."""
    return {
        "instances": [asdict(instance) for instance in gaps],
        "median": {policy: {"over_optimum": best, "over_bound": bound} for policy, best, bound in medians(gaps)},
    }
