"""What is one run of the benchmark? A scenario, a seed and a policy, and what came out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_fate.bench.suite.origin import code_digest, suite_digest
from airflow_fate.planner.objectives import DEFAULT


@dataclass(frozen=True)
class Job:
    """One run.

    :param variation: name of an ablation; empty for the policy as it is.
    :param options: what that ablation sets.
    """

    suite: str
    scenario: str
    seed: int
    policy: str
    objective: str = DEFAULT
    variation: str = ""
    options: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The policy as tables name it: the ablation, where it is one."""
        return self.variation or self.policy

    @property
    def title(self) -> str:
        """As progress names it."""
        return f"{self.suite}/{self.scenario} seed {self.seed}, {self.label}, {self.objective}"

    @property
    def path(self) -> str:
        """Its file, relative to the folder of results."""
        parts = [self.policy, self.objective, *([self.variation] if self.variation else [])]
        name = ".".join(part.replace("/", "-").replace(" ", "-") for part in parts)
        return f"{self.suite}/{self.scenario}/seed-{self.seed}/{name}.json"


@dataclass(frozen=True)
class Outcome:
    """What came out of a run.

    :param summary: figures of ``summary.json``.
    :param mechanism: further figures that say why.
    :param wall_s: real seconds that the simulation took, the planning among them.
    :param suite_digest: of the scenarios and their data; a result of another one says nothing about this one.
    :param code_digest: of simulator and planner.
    """

    job: Job
    summary: Mapping[str, float]
    mechanism: Mapping[str, float]
    wall_s: float
    suite_digest: str
    code_digest: str

    def document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Outcome:
        """:raises (KeyError, TypeError): when it is none."""
        return cls(**{**document, "job": Job(**document["job"])})


def execute(job: Job) -> Outcome:
    """Build the scenario and simulate it."""
    from airflow_fate.simulator.simulate import simulate
    from airflow_fate.simulator.suites import find_scenarios

    (scenario,) = find_scenarios(job.suite, job.scenario)
    workload, fleet = scenario.build(job.seed)
    begin = time.perf_counter()
    run = simulate(workload, fleet, job.policy, objective=job.objective, seed=job.seed, options=dict(job.options))
    wall_s = time.perf_counter() - begin
    return Outcome(job, run.summary, run.mechanism, wall_s, suite_digest(), code_digest())
