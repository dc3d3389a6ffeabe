"""Did reality do as was predicted? Ends of stages, of workflows, and the order of policies. Pure.

An error is ``|predicted - real| / real``, of seconds: of a stage from its bind to its end, of a workflow from its
arrival to its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_fate.executor.runs.learning import Learned

if TYPE_CHECKING:
    from airflow_fate.cluster import Fleet
    from airflow_fate.replay.driver import Lesson
    from airflow_fate.replay.log import Event

LEARNED_AFTER = 50
"""Answers after which speeds count as learned."""
METRICS = ("makespan_s", "mean_s")
"""By which policies are put in an order."""


@dataclass(frozen=True)
class Errors:
    """Relative errors.

    :param count: of how many.
    """

    count: int
    median: float
    p90: float

    @classmethod
    def of(cls, errors: Sequence[float]) -> Errors | None:
        """None where there are none."""
        if not errors:
            return None
        return cls(len(errors), float(np.median(errors)), float(np.percentile(errors, 90)))


@dataclass(frozen=True)
class Comparison:
    """A policy's replay beside what was predicted of it.

    :param stages: of the planner, when it bound them.
    :param stages_learned: of the same, those bound after the first 50 answers.
    :param workflows: of the simulation.
    :param real: summary of the replay.
    :param simulated: summary of the simulation.
    """

    stages: Errors | None
    stages_learned: Errors | None
    workflows: Errors | None
    real: Mapping[str, float]
    simulated: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {
            "errors": {metric: error(self.simulated[metric], self.real[metric]) for metric in METRICS}
        }


def learned(lessons: Iterable[Lesson], fleet: Fleet) -> Learned:
    """All that was learned, in the order in which it was."""
    known = Learned()
    for lesson in sorted(lessons, key=lambda lesson: lesson.at_s):
        known = known.after(lesson.reservation, lesson.facts, fleet, lesson.at_s)
    return known


def compare(
    events: Sequence[Event],
    real: Mapping[str, float],
    simulated_events: Sequence[Event],
    simulated: Mapping[str, float],
) -> Comparison:
    """:param events: of the replay.
    :param simulated_events: of the simulation of the same workload under the same policy.
    """
    stages = stage_errors(events)
    real_s, simulated_s = latencies(events), latencies(simulated_events)
    return Comparison(
        Errors.of([wrong for _, wrong in stages]),
        Errors.of([wrong for answers, wrong in stages if answers >= LEARNED_AFTER]),
        Errors.of([error(simulated_s[name], seconds) for name, seconds in real_s.items() if name in simulated_s]),
        real,
        simulated,
    )


def stage_errors(events: Iterable[Event]) -> list[tuple[int, float]]:
    """(answers that were there when the stage was bound, relative error of its end), of each LLM stage that ended."""
    bound: dict[tuple[str, str], tuple[int, Event, int]] = {}
    answers, errors = 0, []
    for event in events:
        ref = (event.get("workflow", ""), event.get("stage", ""))
        if event["event"] == "bind":
            before, first, prompts = bound.get(ref, (answers, event, 0))
            bound[ref] = before, first, prompts + event["prompts"]
        elif event["event"] == "finish" and ref in bound:
            before, first, prompts = bound[ref]
            errors.append((before, error(first["expected_end_s"] - first["t"], event["t"] - first["t"])))
            answers += prompts
    return errors


def latencies(events: Iterable[Event]) -> dict[str, float]:
    """Seconds from a workflow's arrival to its end, of those that ended."""
    arrived_s: dict[str, float] = {}
    seconds = {}
    for event in events:
        if event["event"] == "arrive":
            arrived_s[event["workflow"]] = event["t"]
        elif event["event"] == "done":
            seconds[event["workflow"]] = event["t"] - arrived_s[event["workflow"]]
    return seconds


def error(predicted: float, real: float) -> float:
    """Relative error; 0 of what takes no time, and takes none."""
    if predicted == real:
        return 0.0
    return abs(predicted - real) / max(real, 1e-9)


def order(comparisons: Mapping[str, Comparison]) -> dict[str, float | None]:
    """By metric, the rank correlation (Spearman) of policies between reality and simulation.

    None where there are fewer than two policies, or all are equal.
    """
    from scipy.stats import spearmanr

    ranks: dict[str, float | None] = {}
    for metric in METRICS:
        real = [each.real[metric] for each in comparisons.values()]
        simulated = [each.simulated[metric] for each in comparisons.values()]
        if len(real) < 2 or len(set(real)) < 2 or len(set(simulated)) < 2:
            ranks[metric] = None
            continue
        rank = float(spearmanr(real, simulated).statistic)
        ranks[metric] = rank if math.isfinite(rank) else None
    return ranks
