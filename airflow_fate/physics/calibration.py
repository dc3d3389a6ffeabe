"""How fast are the engines really? The cost model after a prediction met the facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_fate.physics.costs import CostModel, CostParts

_SLOWEST, _FASTEST = 0.05, 20.0
_NEGLIGIBLE_S = 1e-3
_MOST = 2.0
"""One observation counts as at most so many times faster or slower: an outlier must not move everybody at once."""


def observe(
    costs: CostModel, gpu: str, model: str, predicted: CostParts, realized: CostParts, rate: float = 0.2
) -> CostModel:
    """A cost model whose speeds moved towards what was measured.

    Each factor moves by the ratio of predicted to realized seconds to the power ``rate``: an exponentially weighted
    mean of ratios on a logarithmic scale, so that twice too fast and twice too slow weigh the same. Parts shorter
    than a millisecond say nothing about speed and change nothing. A ratio beyond two counts as two.

    :param predicted: for the tokens that were really computed; otherwise a wrong guess at the prefix cache or the
        output's length would pass for a slow engine.
    """
    key = (gpu, model)
    return replace(
        costs,
        prefill_factor=_moved(costs.prefill_factor, key, predicted.prefill_s, realized.prefill_s, rate),
        decode_factor=_moved(costs.decode_factor, key, predicted.decode_s, realized.decode_s, rate),
        load_factor=_moved(costs.load_factor, key, predicted.load_s, realized.load_s, rate),
    )


def _moved(
    factors: Mapping[tuple[str, str], float], key: tuple[str, str], predicted_s: float, realized_s: float, rate: float
) -> Mapping[tuple[str, str], float]:
    if min(predicted_s, realized_s) < _NEGLIGIBLE_S:
        return factors
    ratio = min(_MOST, max(1.0 / _MOST, predicted_s / realized_s))
    moved = factors.get(key, 1.0) * ratio**rate
    return {**factors, key: min(_FASTEST, max(_SLOWEST, moved))}
