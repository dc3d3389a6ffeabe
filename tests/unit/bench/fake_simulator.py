"""A simulator that only pretends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload


@dataclass(frozen=True)
class FakeRun:
    events: list[dict[str, Any]]
    summary: dict[str, float]
    mechanism: dict[str, float]


@dataclass
class FakeSimulator:
    """Stands in for ``airflow_fate.simulator.simulate``; a policy's quality is its makespan over round robin's.

    :param calls: policy, objective, seed and options of each simulation.
    """

    quality: Mapping[str, float] = field(default_factory=lambda: {"fate": 0.6, "eft": 0.8, "eft+": 0.7})
    calls: list[tuple[str, str, int, dict[str, float]]] = field(default_factory=list)
    on_call: Callable[[str], None] = lambda policy: None

    def simulate(
        self,
        workload: Workload,
        fleet: Fleet,
        policy: str,
        *,
        objective: str = "balanced",
        seed: int = 0,
        options: Mapping[str, float] | None = None,
    ) -> FakeRun:
        self.on_call(policy)
        self.calls.append((policy, objective, seed, dict(options or {})))
        # An ablation is a little worse for each part that is off.
        makespan_s = 100 * self.quality.get(policy, 1.0) * (1 + 0.01 * len(options or {})) * (1 + 0.001 * seed)
        summary = dict.fromkeys(("loads", "load_s", "prefill_tokens", "moved_bytes", "wait_s", "plans"), 10.0)
        summary |= {"makespan_s": makespan_s, "mean_s": makespan_s / 2, "p50_s": 1.0, "p95_s": makespan_s, "p99_s": 1.0}
        summary |= {"cached_tokens": 30.0, "plan_p50_s": 0.001, "plan_p99_s": 0.002, "lower_bound_s": 30.0}
        return FakeRun([{"t": 0.0, "event": "arrive", "workflow": "run"}], summary, {"reachable": 3.0})

    def install(self, monkeypatch: Any) -> None:
        module = ModuleType("airflow_fate.simulator.simulate")
        vars(module)["simulate"] = self.simulate
        monkeypatch.setitem(sys.modules, "airflow_fate.simulator.simulate", module)
        monkeypatch.setattr("airflow_fate.planner.registry.NAMES", ("fate", "round_robin", "eft", "eft+"))
