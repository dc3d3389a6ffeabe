"""What did each policy reach over all draws, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import t

from airflow_fate.bench.metrics import METRICS
from airflow_fate.bench.report.ratios import Ratio
from airflow_fate.planner.registry import BASELINE

_LEVEL = 0.95


@dataclass(frozen=True)
class Answer:
    """A policy's means over the draws.

    :param ratios: metric -> over round robin on the same draws, with the interval of its geometric mean over draws.
    """

    policy: str
    makespan_s: float
    mean_s: float
    p95_s: float
    loads: float
    cached_share: float
    ratios: Mapping[str, Ratio]

    @property
    def is_told_apart(self) -> bool:
        """Whether no interval holds 1, which would be round robin's."""
        return not any(ratio.low <= 1.0 <= ratio.high for ratio in self.ratios.values())

    def document(self) -> dict[str, Any]:
        return asdict(self)


def answer(policy: str, summaries: Sequence[Mapping[str, float]], base: Sequence[Mapping[str, float]]) -> Answer:
    """Sum up a policy.

    :param summaries: of its runs, one for each draw, of which there are two or more.
    :param base: round robin's, in the same order.
    """
    cached = sum(summary["cached_tokens"] for summary in summaries)
    asked = cached + sum(summary["prefill_tokens"] for summary in summaries)
    return Answer(
        policy,
        fmean(summary["makespan_s"] for summary in summaries),
        fmean(summary["mean_s"] for summary in summaries),
        fmean(summary["p95_s"] for summary in summaries),
        fmean(summary["loads"] for summary in summaries),
        cached / asked if asked else 0.0,
        {} if policy == BASELINE else {metric: _ratio(summaries, base, key) for metric, key in METRICS.items()},
    )


def _ratio(summaries: Sequence[Mapping[str, float]], base: Sequence[Mapping[str, float]], key: str) -> Ratio:
    pairs = zip(summaries, base, strict=True)
    logs = np.log([own[key] / other[key] if other[key] else 1.0 for own, other in pairs])
    # Of a handful of draws: Student's t, where resampling would be too sure.
    off = float(t.ppf((1 + _LEVEL) / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
    middle = float(logs.mean())
    return Ratio(*(float(np.exp(value)) for value in (middle, middle - off, middle + off)))
