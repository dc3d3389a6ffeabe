"""How fast are the engines really? The cost model after what an engine did was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_fate.physics.costs import CostModel
from airflow_fate.physics.law import Law, Measured

_SLOWEST, _FASTEST = 0.05, 20.0
_NEGLIGIBLE_S = 1e-3
_MOST = 2.0
"""One observation counts as at most so many times faster or slower: an outlier must not move everybody at once."""
_RATE = 0.2
_DEVICE_RATE = 0.1
"""A device differs from its like for long, if at all."""


def observe(
    costs: CostModel, key: tuple[str, str], described: Law, device: str, measured: Measured, alone: bool
) -> CostModel:
    """What is known once an engine has answered.

    An answer is first held against the law of its model and GPU. Where the device has its like, what is left is
    partly the device's own: it may be throttled, or shared with somebody else.

    :param key: GPU and model.
    :param described: the law before any answer.
    :param alone: whether no other device of the fleet is of that GPU.
    """
    law = costs.laws.get(key, described)
    if measured.seconds < _NEGLIGIBLE_S:
        return costs
    slowness = costs.slowness.get(device, 1.0)
    known = replace(measured, seconds=measured.seconds / slowness)
    costs = replace(costs, laws={**costs.laws, key: law.after(known)})
    expected_s = law.seconds(known)
    if alone or expected_s <= 0.0 or law.speeds is law.described:
        return costs
    moved = slowness * _ratio(known.seconds, expected_s) ** _DEVICE_RATE
    return replace(costs, slowness={**costs.slowness, device: min(1.0 / _SLOWEST, max(1.0 / _FASTEST, moved))})


def observe_load(costs: CostModel, key: tuple[str, str], expected_s: float, load_s: float) -> CostModel:
    """What is known once a model was loaded.

    The factor moves by a power of the ratio of expected to measured seconds: an exponentially weighted mean of ratios
    on a logarithmic scale, so that twice too fast and twice too slow weigh the same.

    :param key: GPU and model.
    """
    if min(expected_s, load_s) < _NEGLIGIBLE_S:
        return costs
    factors: Mapping[tuple[str, str], float] = costs.load_factor
    moved = factors.get(key, 1.0) * _ratio(expected_s, load_s) ** _RATE
    return replace(costs, load_factor={**factors, key: min(_FASTEST, max(_SLOWEST, moved))})


def _ratio(over_s: float, under_s: float) -> float:
    return min(_MOST, max(1.0 / _MOST, over_s / under_s))
