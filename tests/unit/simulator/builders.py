"""Small workloads, fleets and a simulator that only pretends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from airflow_fate.cluster import Fleet
from airflow_fate.simulator.workload import Workload


def workload_document() -> dict[str, Any]:
    """A question, a tool, and an answer that goes on with the question's conversation."""
    question = {
        "id": "question",
        "kind": "llm",
        "model": "small",
        "prompts": 2,
        "prompt_tokens": 100,
        "output_tokens": 20,
        "expected_output_tokens": 25,
        "prefix": [{"key": "house", "tokens": 30}, {"key": "text", "tokens": 40}],
        "continues": None,
        "output_bytes": 1000,
        "max_shards": 2,
    }
    answer = question | {"id": "answer", "prompts": 1, "prompt_tokens": 200, "prefix": [], "continues": "question"}
    tool = {"id": "search", "kind": "tool", "duration_s": 1.5, "output_bytes": 10}
    edges = [["question", "search"], ["search", "answer"], ["question", "answer"]]
    workflow = {"id": "run", "arrival_s": 0.5, "tenant": "a", "stages": [question, tool, answer], "edges": edges}
    return {"name": "two questions", "workflows": [workflow]}


def fleet_document() -> dict[str, Any]:
    model = {
        "weights_gb": 16.0,
        "load_gb_per_s": {"disk": 2.0, "host": 8.0},
        "prefill_tps": {"fast": 1000.0},
        "decode_tps": {"fast": 50.0},
        "group_size": 1,
    }
    device = {"node": "n", "gpu": "fast", "memory_gb": 20.0, "kv_tokens": 5000, "max_seqs": 4}
    return {
        "nodes": [{"id": "n", "zone": "z", "gbps": 10.0, "host_gb": 64.0}],
        "devices": [{"id": "d0"} | device, {"id": "d1"} | device],
        "groups": [{"id": "pair", "devices": ["d0", "d1"]}],
        "models": {"small": model, "wide": model | {"weights_gb": 30.0, "group_size": 2}},
        "decode_slowdown": 0.03,
        "latency_s": 0.001,
    }


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
        monkeypatch.setattr("airflow_fate.planner.drivers.NAMES", ("fate", "round_robin", "eft", "eft+"))


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
