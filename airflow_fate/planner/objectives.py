"""What shall be as small as possible? The objectives, by name."""

from __future__ import annotations

from typing import NamedTuple


class Weights(NamedTuple):
    """Of the last end, of the mean latency and of the tail.

    The tail is the generalized mean of eighth order. The 95th percentile itself is one workflow's latency: a search
    finds ways to improve that one at the cost of the rest.
    """

    last_end: float
    mean: float
    tail: float


OBJECTIVES: dict[str, Weights] = {
    "makespan": Weights(1.0, 0.02, 0.0),
    "mean": Weights(0.02, 1.0, 0.0),
    "p95": Weights(0.02, 0.2, 1.0),
    "balanced": Weights(0.4, 0.3, 0.3),
}
DEFAULT = "balanced"
