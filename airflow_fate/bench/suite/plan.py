"""Which runs does a benchmark need? Scenarios times seeds times policies, and the ablations of FATE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.suite.job import Job
from airflow_fate.planner.objectives import DEFAULT
from airflow_fate.planner.registry import BASELINE, FATE
from airflow_fate.simulator.suites import Scenario, find_scenarios

DIMENSIONS = ("residency", "locality", "prefix", "reachability")
"""What of the future state FATE looks at."""

PARTS = ("holding", "overlap", "lookahead", "rollouts", "shards", "prefetch", "eviction", "estimates", "cpsat")
"""What FATE does beside that."""


@dataclass(frozen=True)
class Variation:
    """FATE with some of its parts off.

    :param group: the question that it belongs to.
    """

    name: str
    group: str
    options: dict[str, float] = field(default_factory=dict)


FULL = Variation("complete", "")


def variations() -> tuple[Variation, ...]:
    """All ablations: each part off, each dimension alone, all off together, and how much of horizon and shards."""
    every = (*DIMENSIONS, *PARTS)
    return (
        FULL,
        *(Variation(f"without {name}", "One off", {name: 0}) for name in every),
        *(
            Variation(f"only {name}", "One dimension alone", {other: 0 for other in DIMENSIONS if other != name})
            for name in DIMENSIONS
        ),
        Variation("no dimension", "Together", dict.fromkeys(DIMENSIONS, 0)),
        Variation("no part", "Together", dict.fromkeys(PARTS, 0)),
        Variation("nothing", "Together", dict.fromkeys((*every, "horizon"), 0)),
        *(Variation(f"horizon {depth}", "Horizon", {"horizon": depth}) for depth in range(5)),
        *(Variation(f"shards {most}", "Shards", {"shards": most}) for most in (1, 2, 4, 8)),
    )


def chosen(suite: str, names: Sequence[str]) -> tuple[Scenario, ...]:
    """The suite's scenarios of these names; all, if none is named.

    :raises ValueError: listing the known ones.
    """
    if not names:
        return find_scenarios(suite)
    return tuple(scenario for name in names for scenario in find_scenarios(suite, name))


def policy_jobs(
    scenarios: Sequence[Scenario], seeds: Sequence[int], policies: Sequence[str], objectives: Sequence[str]
) -> list[Job]:
    """Runs that compare policies; FATE runs once for each objective, the others can't use one.

    Seeds come first, so that an interrupted benchmark has whole seeds of all.
    """
    named = list(dict.fromkeys([BASELINE, *policies]))
    return [
        Job(scenario.suite, scenario.name, seed, policy, objective)
        for seed in seeds
        for scenario in scenarios
        for policy in named
        for objective in (objectives if policy == FATE else (DEFAULT,))
    ]


def ablation_jobs(scenarios: Sequence[Scenario], seeds: Sequence[int], objective: str) -> list[Job]:
    """Runs that take FATE apart, and round robin to compare with."""
    return [
        job
        for seed in seeds
        for scenario in scenarios
        for job in (
            Job(scenario.suite, scenario.name, seed, BASELINE),
            *(
                Job(scenario.suite, scenario.name, seed, FATE, objective, each.name, each.options)
                for each in variations()
            ),
        )
    ]


def objective_for(metric: str, objectives: Sequence[str]) -> str:
    """The objective under which FATE is judged on a metric: the metric itself, where FATE ran with it."""
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    return metric if metric in objectives else objectives[0]
